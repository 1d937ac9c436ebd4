from skip2lora.serve.home_assistant import discovery, discovery_topic


def test_the_description_has_what_home_assistant_asks_for():
    about = discovery("fan", "Fan", "skip2lora/fan", ["a", "b"])
    assert about["o"]["name"]
    assert about["dev"]["ids"]
    ids = [of["unique_id"] for of in about["cmps"].values()]
    assert len(set(ids)) == len(ids)
    shown, asked = "value_template", "command_topic"
    needs = {"button": asked, "sensor": shown, "binary_sensor": shown, "update": asked}
    for entity in about["cmps"].values():
        assert needs[entity["p"]] in entity
    assert about["cmps"]["answer"]["value_template"] == "{{ value_json.answer }}"
    assert about["cmps"]["answer"]["options"] == ["a", "b"]
    assert about["cmps"]["confidence"]["suggested_display_precision"] == 0
    assert about["qos"] == 1  # at least once


def test_two_services_are_two_devices():
    one, other = (discovery(id, id, f"skip2lora/{id}", ["a"]) for id in ("a", "b"))
    assert discovery_topic("a") != discovery_topic("b")
    assert not set(one["dev"]["ids"]) & set(other["dev"]["ids"])
    assert one["cmps"]["learn"]["command_topic"] == "skip2lora/a/learn/set"
