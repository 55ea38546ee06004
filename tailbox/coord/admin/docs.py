"""`/api/docs`: pages to read the OpenAPI document and try each operation, without anything from elsewhere.

The page builds itself from `/api/openapi.json` with text nodes only, so nothing in the document can become markup. A
token typed in stays in the page's memory; without one, the console's session is used, with its CSRF token from
`whoami`.
"""

from __future__ import annotations

from starlette.responses import Response

from tailbox.coord.admin.pages import html_page

BODY = """
<p class="muted">Every operation of this coordinator, from <a href="/api/openapi.json">openapi.json</a>.</p>
<label>API token (empty: use the console session)<input id="token" type="password" autocomplete="off"></label>
<label>Search<input id="search" type="search"></label>
<div id="operations"><p>Loading…</p></div>
<noscript>These pages need JavaScript; <a href="/api/openapi.json">the document itself</a> does not.</noscript>
"""

SCRIPT = """
'use strict';
const make = (tag, text, parent) => {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
};
let specification = null, csrfToken = null;

const resolve = (schema) => schema && schema.$ref
  ? specification.components.schemas[schema.$ref.split('/').pop()] : schema;

const example = (schema, depth = 0) => {
  schema = resolve(schema) || {};
  if (depth > 5) return null;
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return example(schema.anyOf.find((each) => each.type !== 'null') || schema.anyOf[0], depth + 1);
  switch (schema.type) {
    case 'object': return Object.fromEntries(Object.entries(schema.properties || {})
      .map(([name, inner]) => [name, example(inner, depth + 1)]));
    case 'array': return schema.items && depth < 4 ? [example(schema.items, depth + 1)] : [];
    case 'integer': case 'number': return 0;
    case 'boolean': return false;
    default: return '';
  }
};

const headersFor = async (method) => {
  const token = document.getElementById('token').value.trim();
  if (token) return { Authorization: 'Bearer ' + token };
  if (method === 'get') return {};
  if (!csrfToken) {
    const answer = await fetch('/api/v2/whoami');
    if (answer.ok) csrfToken = (await answer.json()).csrfToken;
  }
  return csrfToken ? { 'X-CSRF-Token': csrfToken } : {};
};

const showAnswer = async (answer, output) => {
  const kind = answer.headers.get('content-type') || '';
  output.textContent = answer.status + ' ' + answer.statusText + '\\n';
  if (kind.startsWith('text/event-stream')) {
    const reader = answer.body.getReader(), decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      output.textContent = (output.textContent + decoder.decode(value, { stream: true })).slice(-20000);
    }
  }
  const text = await answer.text();
  try { output.textContent += JSON.stringify(JSON.parse(text), null, 2); } catch { output.textContent += text; }
};

const send = async (path, method, fields, bodyField, output) => {
  let url = path;
  const query = new URLSearchParams();
  for (const [parameter, input] of fields) {
    if (parameter.in === 'path') url = url.replace('{' + parameter.name + '}', encodeURIComponent(input.value));
    else if (input.value) query.set(parameter.name, input.value);
  }
  if ([...query].length) url += '?' + query;
  output.textContent = '…';
  try {
    const headers = await headersFor(method);
    const options = { method: method.toUpperCase(), headers };
    if (bodyField) { options.body = bodyField.value; headers['Content-Type'] = 'application/json'; }
    await showAnswer(await fetch(url, options), output);
  } catch (error) { output.textContent = String(error); }
};

const describe = (path, method, operation, parent) => {
  const details = make('details', null, parent);
  details.dataset.text = (method + ' ' + path + ' ' + operation.summary).toLowerCase();
  make('code', method.toUpperCase() + ' ' + path, make('summary', null, details));
  make('p', operation.summary + (operation['x-tailbox-extension'] ? ' (an extension of Tailbox)' : ''), details);
  const form = make('form', null, details);
  const fields = (operation.parameters || []).map((parameter) => {
    const label = make('label', parameter.name + ': ' + parameter.description, form);
    const input = make('input', null, label);
    input.value = parameter.schema.default || '';
    return [parameter, input];
  });
  let bodyField = null;
  if (operation.requestBody) {
    const label = make('label', 'body', form);
    bodyField = make('textarea', null, label);
    bodyField.rows = 8;
    bodyField.value = JSON.stringify(example(operation.requestBody.content['application/json'].schema), null, 2);
  }
  make('button', 'Send', form).className = 'primary';
  const output = make('pre', null, details);
  const statuses = make('ul', null, details);
  for (const [status, answer] of Object.entries(operation.responses))
    make('li', status + ': ' + answer.description, statuses);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send(path, method, fields, bodyField, output);
  });
};

const start = async () => {
  specification = await (await fetch('/api/openapi.json')).json();
  const root = document.getElementById('operations');
  root.replaceChildren();
  for (const { name } of specification.tags) {
    make('h2', name, root);
    for (const [path, methods] of Object.entries(specification.paths))
      for (const [method, operation] of Object.entries(methods))
        if (operation.tags.includes(name)) describe(path, method, operation, root);
  }
  document.getElementById('search').addEventListener('input', (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const each of root.querySelectorAll('details')) each.hidden = !each.dataset.text.includes(wanted);
  });
};
start().catch((error) => { document.getElementById('operations').textContent = String(error); });
"""


def docs_page(nonce: str) -> Response:
    """The page itself; it asks for the document from the browser."""
    return html_page("API", BODY, nonce=nonce, script=SCRIPT, is_wide=True)
