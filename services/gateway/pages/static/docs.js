// The interface as the running services describe it, to read and to try. No library, nothing from elsewhere.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const token = document.getElementById("token");
const search = document.getElementById("search");

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function resolve(description, part) {
  if (!part || !part.$ref) return part;
  return part.$ref.slice(2).split("/").reduce((at, key) => at[key.replace(/~1/g, "/").replace(/~0/g, "~")], description);
}

// An example of what a schema describes; `depth` ends schemas that contain themselves.
function example(description, schema, depth = 0) {
  const known = resolve(description, schema);
  if (!known || depth > 6) return null;
  if (known.examples?.length) return known.examples[0];
  for (const given of ["example", "default", "const"]) if (known[given] !== undefined) return known[given];
  if (known.enum) return known.enum[0];
  const choice = known.anyOf || known.oneOf || known.allOf;
  if (choice) return example(description, choice[0], depth + 1);
  if (known.type === "array") return [example(description, known.items, depth + 1)];
  if (known.properties) {
    return Object.fromEntries(
      Object.entries(known.properties).map(([name, property]) => [name, example(description, property, depth + 1)]),
    );
  }
  return { string: "", integer: 0, number: 0, boolean: false, object: {} }[known.type] ?? null;
}

function bodyOf(description, operation) {
  const content = resolve(description, operation.requestBody)?.content ?? {};
  const type = Object.keys(content)[0];
  if (!type) return null;
  const media = content[type];
  const shown = media.example ?? Object.values(media.examples ?? {})[0]?.value;
  return { type, schema: resolve(description, media.schema), value: shown ?? example(description, media.schema) };
}

function field(label, input) {
  return element("label", {}, label, input);
}

function parameterInputs(description, item, operation) {
  const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((p) => resolve(description, p));
  return parameters.map((parameter) => ({
    parameter,
    input: element("input", {
      placeholder: parameter.description ?? parameter.schema?.type ?? "",
      required: Boolean(parameter.required),
      value: parameter.example ?? (parameter.required ? example(description, parameter.schema) ?? "" : ""),
    }),
  }));
}

function bodyInputs(body) {
  if (!body) return [];
  if (body.type !== "multipart/form-data") {
    return [{ text: element("textarea", { value: JSON.stringify(body.value, null, 2), spellcheck: false }) }];
  }
  return Object.entries(body.schema?.properties ?? {}).map(([name, property]) => {
    const isFile = property.format === "binary" || property.contentMediaType !== undefined;
    return { name, isFile, input: element("input", { type: isFile ? "file" : "text" }) };
  });
}

function request(method, path, parameters, body, inputs) {
  const query = new URLSearchParams();
  const headers = new Headers();
  let target = path;
  for (const { parameter, input } of parameters) {
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "" && parameter.in === "query") query.append(parameter.name, input.value);
    else if (input.value !== "" && parameter.in === "header") headers.set(parameter.name, input.value);
  }
  if (token.value) headers.set("authorization", `Bearer ${token.value.trim()}`);
  const options = { method: method.toUpperCase(), headers };
  if (body && inputs[0]?.text) {
    headers.set("content-type", body.type);
    options.body = inputs[0].text.value;
  } else if (body) {
    options.body = new FormData();
    for (const { name, isFile, input } of inputs) {
      if (isFile && input.files[0]) options.body.append(name, input.files[0]);
      else if (!isFile && input.value !== "") options.body.append(name, input.value);
    }
  }
  return [query.size ? `${target}?${query}` : target, options];
}

// A spreadsheet or another file is not shown but offered, under the name that the service gives it.
function offerFile(output, blob, disposition) {
  const name = /filename="?([^";]+)/.exec(disposition ?? "")?.[1] ?? "answer";
  const link = element("a", { href: URL.createObjectURL(blob), download: name }, `Save ${name} (${blob.size} bytes)`);
  output.before(element("p", {}, link));
}

async function show(output, path, options) {
  const started = performance.now();
  try {
    const answer = await fetch(path, options);
    const type = answer.headers.get("content-type") ?? "";
    const isText = type === "" || /^text|\b(json|xml)\b/.test(type);
    const text = isText ? await answer.text() : "";
    let pretty = text;
    if (!isText) offerFile(output, await answer.blob(), answer.headers.get("content-disposition"));
    try {
      const parsed = JSON.parse(text);
      pretty = JSON.stringify(parsed, null, 2);
      if (answer.ok && parsed.access_token) token.value = parsed.access_token;
    } catch {
      // not JSON: shown as it is
    }
    const head = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const time = Math.round(performance.now() - started);
    output.textContent = `${answer.status} ${answer.statusText} (${time} ms)\n${head}\n\n${pretty}`;
  } catch (error) {
    output.textContent = `The call did not go through: ${error.message}`;
  }
  output.hidden = false;
}

function answersTable(description, operation) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, answer]) =>
    element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, resolve(description, answer).description ?? "")),
  );
  return element("table", {}, element("tr", {}, element("th", {}, "Answer"), element("th", {}, "")), ...rows);
}

function operationView(description, path, item, method) {
  const operation = item[method];
  const parameters = parameterInputs(description, item, operation);
  const body = bodyOf(description, operation);
  const inputs = bodyInputs(body);
  const output = element("pre", { hidden: true });
  const form = element("form", {});
  for (const { parameter, input } of parameters) form.append(field(`${parameter.name} (${parameter.in})`, input));
  for (const entry of inputs) form.append(entry.text ? field(`Body (${body.type})`, entry.text) : field(entry.name, entry.input));
  form.append(element("button", { type: "submit" }, "Call"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(output, ...request(method, path, parameters, body, inputs));
  });
  const isPublic = operation.security?.length === 0;
  return element(
    "details",
    { id: operation.operationId ?? "" },
    element(
      "summary",
      {},
      element("b", {}, method.toUpperCase()),
      element("code", {}, path),
      ` ${operation.summary ?? ""}`,
      element("span", { className: "note mark" }, isPublic ? "public" : ""),
    ),
    element("p", {}, operation.description ?? ""),
    element("p", { className: "note" }, isPublic ? "Public." : "Needs an access token."),
    form,
    output,
    answersTable(description, operation),
  );
}

function showOnlyMatches() {
  const wanted = search.value.trim().toLowerCase();
  for (const section of document.querySelectorAll("main section")) {
    const calls = [...section.querySelectorAll("details")];
    for (const call of calls) call.hidden = !call.querySelector("summary").textContent.toLowerCase().includes(wanted);
    section.hidden = calls.every((call) => call.hidden);
  }
}

// An address such as /docs#auth.login opens that call.
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) named.open = true;
  named?.scrollIntoView();
}

async function load() {
  const place = document.getElementById("operations");
  try {
    const description = await (await fetch("/openapi.json")).json();
    const names = description.tags.map(({ name }) => name);
    const sections = new Map(names.map((name) => [name, element("section", { id: name }, element("h2", {}, name))]));
    const links = names.map((name) => element("a", { href: `#${name}` }, name));
    document.getElementById("services").replaceChildren(...links);
    for (const [path, item] of Object.entries(description.paths)) {
      for (const method of METHODS.filter((name) => item[name])) {
        sections.get(item[method].tags[0])?.append(operationView(description, path, item, method));
      }
    }
    place.replaceChildren(...sections.values());
    showOnlyMatches();
    openNamed();
    for (const service of description["x-missing-services"] ?? []) {
      place.prepend(element("p", {}, `The service ${service} does not answer; its calls are not shown.`));
    }
  } catch (error) {
    place.textContent = `The description could not be loaded: ${error.message}`;
  }
}

search.addEventListener("input", showOnlyMatches);
addEventListener("hashchange", openNamed);
for (const form of document.querySelectorAll("form.token")) form.addEventListener("submit", (event) => event.preventDefault());
load();
