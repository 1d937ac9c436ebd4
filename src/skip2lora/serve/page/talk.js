// Asks the service; the token stays in this tab.
let token = sessionStorage.getItem("token") ?? "";

export const hasToken = () => token !== "";

export function keepToken(text) {
  token = text;
  sessionStorage.setItem("token", text);
}

export class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

export async function ask(path, body) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const options = { headers, cache: "no-store" };
  if (body !== undefined) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    headers["content-type"] = "application/json";
  }
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const about = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, about.error ?? answer.statusText);
  }
  return answer.headers.get("content-type")?.startsWith("application/json")
    ? answer.json() : answer.blob();
}
