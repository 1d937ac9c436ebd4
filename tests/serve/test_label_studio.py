import pytest

from desk import NAMES
from serve.place import field
from skip2lora.serve.label_studio import sample_of

CONFIG = """<View><Image name="img" value="$picture"/>
<Choices name='state' toName="img" choice="single"><Choice value="a"/></Choices></View>"""


@pytest.fixture(autouse=True)
def samples(served):
    served.predict(field(n_samples=30)[0])


def annotated(sample, *choices, action="ANNOTATION_CREATED"):
    result = [{"type": "choices", "from_name": "state", "value": {"choices": list(choices)}}]
    return {"action": action, "task": {"id": 5, "data": {"skip2lora": sample}},
            "annotation": {"id": 1, "result": result}}  # fmt: skip


def test_the_backend_is_up(client):
    assert client.get("/health").json() == {"status": "UP", "model_class": "skip2lora"}
    setup = client.post("/setup", {"project": "1.2", "schema": CONFIG, "hostname": "x"})
    assert setup.json() == {"model_version": "fan 0"}


def test_tasks_come_with_what_the_service_answered(served, client):
    tasks = client.get("/api/label-studio/tasks").json()
    assert [each["data"]["skip2lora"] for each in tasks] == served.ask()
    assert tasks[0]["data"]["picture"].startswith("http://localhost/api/samples/")
    answer = client.post("/predict", {"tasks": [*tasks, {"data": {"text": "of others"}}],
                                      "label_config": CONFIG, "project": "1"})  # fmt: skip
    results = answer.json()["results"]
    assert len(results) == len(tasks) + 1
    sample = served.sample(tasks[0]["data"]["skip2lora"])
    assert results[0] == {
        "model_version": "fan 0", "score": sample["probability"],
        "result": [{"from_name": "state", "to_name": "img", "type": "choices",
                    "value": {"choices": [sample["answer"]]}}],
    }  # fmt: skip
    assert results[-1]["result"] == []


def test_an_annotation_is_a_label_and_a_changed_one_settles_it(served, client):
    assert client.post("/webhook", annotated(3, NAMES[0])).json() == {"labelled": 1}
    assert served.sample(3)["label"] == NAMES[0]
    changed = annotated(3, NAMES[1], action="ANNOTATION_UPDATED")
    assert client.post("/webhook", changed).json() == {"labelled": 1}
    assert served.sample(3)["label"] == NAMES[1]
    assert {each["source"] for each in served.labels()} == {"label studio"}


@pytest.mark.parametrize("event", [
    {}, {"action": "PROJECT_UPDATED"}, {"action": ["ANNOTATION_CREATED"]},
    annotated(3), annotated(3, NAMES[0], NAMES[1]), annotated("3", NAMES[0]),
    annotated(99, NAMES[0]), annotated(3, "unheard of"), annotated(3, 7), annotated(None, NAMES[0]),
    {"action": "ANNOTATION_CREATED", "annotation": {"result": {}}, "task": []},
    {"action": "ANNOTATION_CREATED", "annotation": {"result": [{"value": []}]}},
])  # fmt: skip
def test_other_events_are_left_alone_with_a_reason(served, client, event):
    answer = client.post("/webhook", event)
    assert answer.status == 200
    assert answer.json()["labelled"] == 0
    assert answer.json()["reason"]
    assert served.labels() == []


@pytest.mark.parametrize("body", [b"", b"[]", {}, {"tasks": 3}, {"tasks": [{}] * 1001}])
def test_no_tasks_are_refused(client, body):
    assert client.post("/predict", body).status == 400


@pytest.mark.parametrize(
    "config", [None, 3, "", "<Choices", "<Choices name=x toName=y>", CONFIG[:40]]
)
def test_names_are_usual_ones_where_the_project_tells_none(client, config):
    tasks = [{"data": {"skip2lora": 1}}]
    result = client.post("/predict", {"tasks": tasks, "label_config": config}).json()["results"][0]
    names = (result["result"][0]["from_name"], result["result"][0]["to_name"])
    assert names == ("label", "sample")


@pytest.mark.parametrize("task", [None, [], {}, {"data": None}, {"data": {"skip2lora": True}}])
def test_what_is_no_task_of_ours(task):
    assert sample_of(task) is None
