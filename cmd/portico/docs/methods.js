// The page of the methods: shows what /openapi.json says of them, and tries them. What
// is typed into it, or learned from answers, stays in it and is gone when it is closed.

// Tokens and passwords, by the name of the security scheme they are for.
const secrets = { session: '', refresh: '', service: '', admin: '' }
// What stands in examples for the samples that the document has, by the same names.
const mine = {}
const done = { account: false, session: false } // the first steps
let doc // the document
let server = {} // what describeServer says
let methods = [] // { id, name, group, verb, path, op }

const at = id => document.getElementById(id)

// el makes an element. A property whose name has a "-" is set as an attribute.
function el(tag, properties = {}, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-')) e.setAttribute(name, value)
    else e[name] = value
  }
  e.append(...children.flat().filter(c => c !== undefined && c !== null && c !== ''))
  return e
}

// Text

// prose draws the paragraphs, lists, `code` and **bold** of a description.
function prose(text) {
  return (text ?? '').split(/\n{2,}/).filter(Boolean).map(block => {
    const lines = block.split('\n')
    if (lines.every(l => l.startsWith('- '))) return el('ul', {}, lines.map(l => el('li', {}, inline(l.slice(2)))))
    return el('p', {}, inline(block))
  })
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map(part => {
    if (part.length > 2 && part.startsWith('`')) return el('code', {}, part.slice(1, -1))
    if (part.length > 4 && part.startsWith('**')) return el('strong', {}, part.slice(2, -2))
    return part
  })
}

// json draws a value, with colours.
function json(value) {
  const text = JSON.stringify(value, null, 2)
  const pre = el('pre', { tabIndex: 0 })
  let end = 0
  for (const m of text.matchAll(/("(?:[^"\\]|\\.)*")(:?)|\b(?:true|false|null)\b|-?\b\d[\d.eE+-]*/g)) {
    pre.append(text.slice(end, m.index), el('span', { className: m[2] ? 'key' : m[1] ? 'string' : 'other' }, m[1] ?? m[0]), m[2] ?? '')
    end = m.index + m[0].length
  }
  pre.append(text.slice(end))
  return pre
}

function copyButton(text) {
  const b = el('button', { type: 'button', className: 'plain', textContent: 'Copy' })
  b.onclick = async () => {
    await navigator.clipboard.writeText(text())
    b.textContent = 'Copied'
    setTimeout(() => { b.textContent = 'Copy' }, 1500)
  }
  return b
}

// Schemas

const resolve = schema => schema?.$ref ? doc.components.schemas[schema.$ref.split('/').pop()] : schema

function typeName(schema) {
  if (schema?.$ref) {
    const name = schema.$ref.split('/').pop().replace(/^(.*_.*)\.typed$/, '$1') // what unions are of has a schema with its $type
    return name.replace(/_$/, '').replace('_', '#').replace(/^(Blob|Bytes|CIDLink)$/, m => m.toLowerCase())
  }
  if (!schema || typeof schema !== 'object') return 'anything'
  if (schema.type === 'array') return 'list of ' + typeName(schema.items)
  if (schema.oneOf || schema.anyOf) {
    const named = (schema.oneOf ?? schema.anyOf).map(s => s.allOf?.[0] ?? s).filter(s => s.$ref)
    return named.length ? 'one of ' + named.map(typeName).join(', ') : 'one of several'
  }
  if (schema.allOf) return typeName(schema.allOf[0])
  if ('const' in schema) return JSON.stringify(schema.const)
  if (schema.enum) return schema.enum.map(v => JSON.stringify(v)).join(' or ')
  return schema.format ? `${schema.type} (${schema.format})` : schema.type ?? 'anything'
}

// parts are the schemas with properties of their own that a value of schema is made of.
function parts(schema) {
  schema = resolve(schema)
  if (!schema || typeof schema !== 'object') return []
  if (schema.type === 'array') return parts(schema.items)
  const several = schema.oneOf ?? schema.anyOf
  if (several) return several.map(s => s.allOf?.[0] ?? s).filter(s => s.$ref).flatMap(s => parts(s).map(p => ({ ...p, title: typeName(s) })))
  if (schema.allOf) return schema.allOf.slice(0, 1).flatMap(parts)
  return schema.properties ? [{ schema }] : []
}

// bounds says what else a value is held to.
function bounds(schema) {
  schema = resolve(schema) ?? {}
  const all = []
  if ('minimum' in schema || 'maximum' in schema) all.push(`${schema.minimum ?? ''}–${schema.maximum ?? ''}`)
  if ('default' in schema) all.push(`default ${JSON.stringify(schema.default)}`)
  if (schema.examples) all.push(`such as ${schema.examples.join(', ')}`)
  return all.length ? ' · ' + all.join(' · ') : ''
}

function fieldList(schema) {
  return el('ul', { className: 'fields' }, Object.entries(schema.properties ?? {}).map(([name, s]) => {
    const li = el('li', {}, el('span', { className: 'name' }, name), el('span', { className: 'type' }, typeName(s) + bounds(s)),
      schema.required?.includes(name) && el('span', { className: 'must' }, 'required') || '',
      prose(s.description ?? resolve(s)?.description))
    for (const part of parts(s)) {
      const details = el('details', {}, el('summary', {}, part.title ?? 'its fields'))
      details.ontoggle = () => { details.childElementCount === 1 && details.append(fieldList(part.schema)) } // it may be inside itself
      li.append(details)
    }
    return li
  }))
}

function bodyFields(content, nothing) {
  const [kind, media] = Object.entries(content ?? {})[0] ?? []
  if (!kind) return el('p', { className: 'soft' }, nothing)
  const shapes = parts(media.schema)
  if (kind !== 'application/json') return el('p', {}, `Bytes (${kind}).`)
  if (!shapes.length) return el('p', { className: 'soft' }, typeName(media.schema) === 'object' ? 'An object.' : typeName(media.schema))
  return shapes.map(p => [p.title && el('p', {}, el('code', {}, p.title)) || '', fieldList(p.schema)])
}

// Examples

// own puts what is the reader's own into an example.
function own(value) {
  if (typeof value === 'string') {
    for (const [name, sample] of Object.entries(doc['x-samples'] ?? {})) value = value.replaceAll(sample, mine[name] ?? sample)
    return value
  }
  if (Array.isArray(value)) return value.map(own)
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, own(v)]))
  return value
}

// Nobody has these names yet, so that signing up works the first time and the second.
function invent() {
  const word = 'alice-' + Math.random().toString(36).slice(2, 6)
  const domain = server.availableUserDomains?.[0]
  if (domain) Object.assign(mine, { handle: word + domain, newHandle: word + '-2' + domain })
  Object.assign(mine, { email: word + '@example.com', newEmail: word + '-2@example.com' })
}

// learn keeps what an answer tells about the reader.
function learn(m, sent, answer) {
  switch (m.id) {
    case 'com.atproto.server.createAccount':
    case 'com.atproto.server.createSession':
    case 'com.atproto.server.refreshSession':
      Object.assign(secrets, { session: answer.accessJwt, refresh: answer.refreshJwt })
      Object.assign(mine, { handle: answer.handle, did: answer.did })
      if (sent?.password) mine.password = sent.password
      if (answer.email ?? sent?.email) mine.email = answer.email ?? sent.email
      done.account = true
      break
    case 'com.atproto.server.getSession':
      Object.assign(mine, { handle: answer.handle, did: answer.did })
      if (answer.email) mine.email = answer.email
      done.account = done.session = true
      break
    case 'com.atproto.identity.updateHandle':
      mine.handle = sent.handle
      break
    case 'com.atproto.server.updateEmail':
      mine.email = sent.email
      break
    case 'com.atproto.server.resetPassword':
      mine.password = sent.password
      break
    case 'com.atproto.server.createInviteCode':
      mine.inviteCode = answer.code
      break
    case 'com.atproto.server.reserveSigningKey':
      mine.signingKey = answer.signingKey
      break
    case 'com.atproto.server.deleteSession':
      Object.assign(secrets, { session: '', refresh: '' })
  }
}

// next says what to do after an answer, where that is not plain.
function next(m, status) {
  const link = id => el('a', { href: '#' + id }, id.split('.').pop())
  if (status === 401 && m.op.security.some(s => s.session)) return ['Sign in first, with ', link('com.atproto.server.createAccount'), ' or ', link('com.atproto.server.createSession'), '.']
  if (status === 401 && m.op.security.some(s => s.admin)) return ['This wants the operator’s password, PDS_ADMIN_PASSWORD of the server’s settings.']
  if (status !== 200) return []
  switch (m.id) {
    case 'com.atproto.server.createAccount':
    case 'com.atproto.server.createSession':
      return ['accessJwt is your token now: this page sends it along where it is asked for. See who it says you are: ', link('com.atproto.server.getSession'), '.']
    case 'com.atproto.server.getSession':
      return ['That is all there is to signing in. A mail with a code next? ', link('com.atproto.server.requestEmailConfirmation'), '.']
    case 'com.atproto.server.requestEmailConfirmation':
      return ['The code is in a mail to you; on a development server, in portico mail list. Then: ', link('com.atproto.server.confirmEmail'), '.']
    case 'com.atproto.server.requestPasswordReset':
      return ['The code is in a mail to you; on a development server, in portico mail list. Then: ', link('com.atproto.server.resetPassword'), '.']
    case 'com.atproto.server.requestAccountDelete':
      return ['The code is in a mail to you; on a development server, in portico mail list. Then: ', link('com.atproto.server.deleteAccount'), '.']
    case 'com.atproto.identity.requestPlcOperationSignature':
      return ['The code is in a mail to you; on a development server, in portico mail list. Then: ', link('com.atproto.identity.signPlcOperation'), '.']
  }
  return []
}

// Pages

const boxes = {
  session: ['Your token', 'The accessJwt of createAccount or createSession, filled in when you call them here.'],
  refresh: ['Your refresh token', 'The refreshJwt of createAccount or createSession, filled in when you call them here.'],
  service: ['A service token', 'What getServiceAuth of another server answered, for this method.'],
  admin: ['The operator’s password', 'PDS_ADMIN_PASSWORD of the server’s settings. A development server has made one, in data/secrets.env.'],
}

function secretBox(scheme) {
  const [label, about] = boxes[scheme]
  const input = el('input', { className: 'mono', type: scheme === 'admin' ? 'password' : 'text', autocomplete: 'off', spellcheck: false, value: secrets[scheme], 'data-secret': scheme })
  input.oninput = () => { secrets[scheme] = input.value.trim() }
  return el('label', { className: 'field' }, el('span', { className: 'label' }, label), input, el('small', {}, about))
}

function showStart() {
  document.title = 'Methods · Portico'
  let primary = true // the button of the first step that is not done
  const step = (finished, title, text, id) => {
    const button = el('a', { className: finished || !primary ? 'button plain' : 'button', href: '#' + id }, id.split('.').pop())
    primary &&= finished
    return el('li', { className: finished ? 'done' : '' }, el('strong', {}, title), el('p', {}, text), button)
  }
  at('main').replaceChildren(
    el('h1', {}, 'What this server can do'),
    el('p', {}, 'An app asks this server by calling methods: a query is a GET, a procedure a POST, to ', el('code', {}, '/xrpc/'), ' and the method’s name. Every method is here, and can be tried. Begin like this:'),
    el('ol', { className: 'steps' },
      step(done.account, done.account ? 'Your account is ' + mine.handle : 'Create an account',
        done.account ? 'Its DID, which never changes, is ' + mine.did + '.' : server.inviteCodeRequired ? 'This server asks for an invite code, which its operator gives out.' : 'The example is filled in, with a name that nobody has. If you have an account here, use createSession instead.', 'com.atproto.server.createAccount'),
      step(secrets.session !== '', 'Take the token', 'The answer has an accessJwt: who sends it is you, for two hours. This page keeps it for the next calls. An app sends it in a header, authorization: Bearer and the token.', 'com.atproto.server.createSession'),
      step(done.session, 'Ask who you are', 'With the token, getSession says whose session it is.', 'com.atproto.server.getSession')),
    el('h2', {}, 'All methods'),
    el('ul', { className: 'groups' }, doc.tags.map(tag => el('li', {},
      el('a', { href: '#' + methods.find(m => m.group === tag).id }, el('strong', {}, tag['x-displayName'] ?? tag.name)),
      el('p', {}, tag.description ?? ''), el('p', { className: 'mono' }, tag.name)))),
    el('h2', {}, 'Tokens'),
    el('p', {}, 'What you put in here is used for every method that asks for it. It stays in this page and is gone when you close it.'),
    el('form', { className: 'try', onsubmit: e => e.preventDefault() }, secretBox('session'), secretBox('admin')),
    el('h2', {}, 'When something is refused'),
    el('p', {}, 'The answer then has a status of 400 or more, and looks like ', el('code', {}, '{"error":"InvalidRequest","message":"…"}'),
      '. The name in error is for programs, the message for people. 401 says that a token is missing or wrong, 429 that it was too often: try later.'),
    el('h2', {}, 'For tools'),
    el('p', {}, 'The same as an OpenAPI 3.1 document: ', el('a', { href: '/openapi.json' }, '/openapi.json'), '. The protocol: ', el('a', { href: 'https://atproto.com' }, 'atproto.com'), '.'))
}

function parameterField(p) {
  const schema = resolve(p.schema)
  const example = own(p.example)
  let input
  if (schema.type === 'boolean' || schema.enum) {
    input = el('select', {}, el('option', { value: '' }, '–'), (schema.enum ?? ['true', 'false']).map(v => el('option', {}, v)))
    input.value = example ?? ''
  } else if (schema.type === 'array') {
    input = el('textarea', { rows: 2, placeholder: 'one a line', value: (example ?? []).join('\n') })
  } else {
    input = el('input', { className: 'mono', value: example ?? '', autocomplete: 'off', spellcheck: false, inputMode: schema.type === 'integer' ? 'numeric' : 'text', placeholder: 'default' in schema ? String(schema.default) : '' })
  }
  input.name = p.name
  return el('label', { className: 'field' }, el('span', { className: 'label' }, el('span', { className: 'mono' }, p.name),
    el('span', { className: 'soft' }, typeName(p.schema) + (p.required ? ', required' : ''))), input, p.description ? el('small', {}, p.description) : '')
}

function showMethod(m) {
  document.title = m.name + ' · Portico'
  const { op } = m
  const content = Object.entries(op.requestBody?.content ?? {})
  const [kind, media] = content[0] ?? []
  const schemes = [...new Set(op.security.flatMap(s => Object.keys(s)))]
  const form = el('form', { className: 'try' }, el('h2', {}, 'Try it'))
  const optional = op.security.some(s => !Object.keys(s).length)
  const rarely = optional ? schemes : schemes.slice(1)
  if (!optional) form.append(...schemes.slice(0, 1).map(secretBox))
  for (const p of op.parameters ?? []) form.append(parameterField(p))
  let body
  if (kind === 'application/json') {
    const example = own(media.example ?? {})
    if (m.id === 'com.atproto.server.createAccount' && server.inviteCodeRequired) example.inviteCode = mine.inviteCode ?? ''
    const text = JSON.stringify(example, null, 2)
    body = el('textarea', { name: 'body', rows: Math.max(3, text.split('\n').length), spellcheck: false, value: text })
    let about = op['x-note'] ?? ''
    if (text.includes(doc['x-samples']?.code)) about = `Put the code from the mail in the place of ${doc['x-samples'].code}. ${about}`
    if (m.id === 'com.atproto.server.createAccount' && server.inviteCodeRequired) about += ' This server asks for an invite code.'
    if (m.id === 'com.atproto.server.createAccount' && server.phoneVerificationRequired) about += ' It also asks for verificationPhone and verificationCode.'
    form.append(el('label', { className: 'field' }, el('span', { className: 'label' }, 'Body', el('span', { className: 'soft' }, 'JSON')), body, about ? el('small', {}, about) : ''))
  } else if (kind) {
    body = el('input', { type: 'file' })
    form.append(el('label', { className: 'field' }, el('span', { className: 'label' }, 'Body', el('span', { className: 'soft' }, kind)), body))
  }
  if (rarely.length) form.append(el('details', {}, el('summary', {}, 'With a service token'), rarely.map(secretBox)))
  const button = el('button', { textContent: 'Send' })
  const answer = el('div', { className: 'answer', 'aria-live': 'polite' })
  form.append(el('div', { className: 'row' }, button), answer)

  const request = () => {
    const url = new URL(m.path, location.origin)
    for (const p of op.parameters ?? []) {
      for (const value of resolve(p.schema).type === 'array' ? form.elements[p.name].value.split('\n') : [form.elements[p.name].value]) {
        if (value.trim() !== '') url.searchParams.append(p.name, value.trim())
      }
    }
    const headers = {}
    const scheme = schemes.find(s => secrets[s])
    if (scheme) headers.authorization = scheme === 'admin' ? 'Basic ' + btoa(String.fromCharCode(...new TextEncoder().encode('admin:' + secrets.admin))) : 'Bearer ' + secrets[scheme]
    if (body) headers['content-type'] = body.type === 'file' ? body.files[0]?.type || 'application/octet-stream' : 'application/json'
    return { url, headers, body: body?.type === 'file' ? body.files[0] : body?.value }
  }

  form.onsubmit = async event => {
    event.preventDefault()
    const r = request()
    let sent
    try { sent = body && body.type !== 'file' ? JSON.parse(r.body) : undefined } catch (e) {
      answer.replaceChildren(el('p', { className: 'status bad' }, 'The body is not JSON: ' + e.message))
      return
    }
    button.disabled = true
    const began = performance.now()
    try {
      const response = await fetch(r.url, { method: m.verb, headers: r.headers, body: r.body, credentials: 'omit', cache: 'no-store' })
      const text = await response.text()
      const took = Math.round(performance.now() - began)
      let value
      try { value = JSON.parse(text) } catch { value = undefined }
      if (response.ok) learn(m, sent, value ?? {})
      for (const input of form.querySelectorAll('[data-secret]')) input.value = secrets[input.dataset.secret]
      const more = next(m, response.status)
      answer.replaceChildren(
        el('div', { className: 'row' }, el('span', {}, el('span', { className: 'status ' + (response.ok ? 'good' : 'bad') }, `${response.status} ${response.statusText}`), el('span', { className: 'soft' }, ` · ${took} ms`)),
          text ? copyButton(() => value === undefined ? text : JSON.stringify(value, null, 2)) : ''),
        text === '' ? el('p', { className: 'soft' }, 'The answer has no body.') : value === undefined ? el('pre', { tabIndex: 0 }, text) : json(value),
        more.length ? el('p', { className: 'note' }, more) : '')
    } catch (e) {
      answer.replaceChildren(el('p', { className: 'status bad' }, 'No answer: ' + e.message))
    }
    button.disabled = false
  }

  const curl = () => {
    const { url, body: text } = request()
    const quote = s => "'" + s.replaceAll("'", "'\\''") + "'"
    const scheme = schemes.find(s => secrets[s]) ?? (optional ? undefined : schemes[0])
    return ['curl ' + (url.search ? quote(url.href) : url.href), m.verb === 'POST' && !body && '-X POST',
      scheme && (scheme === 'admin' ? '-u "admin:$PDS_ADMIN_PASSWORD"' : '-H "authorization: Bearer $TOKEN"'),
      body && `-H ${quote('content-type: ' + (body.type === 'file' ? 'application/octet-stream' : 'application/json'))}`,
      body && (body.type === 'file' ? '--data-binary @FILE' : '-d ' + quote(compact(text)))].filter(Boolean).join(' \\\n  ')
  }
  const command = el('pre', { tabIndex: 0 })
  const asCommand = el('details', {}, el('summary', {}, 'As a command'), el('div', { className: 'answer' }, el('div', { className: 'row' }, copyButton(curl)), command))
  asCommand.ontoggle = form.oninput = () => { command.textContent = curl() }
  form.append(asCommand)

  const failure = op.responses.default?.description.replace(/^.*Errors of this method:\n+/s, '') ?? ''
  const fails = failure.startsWith('- ') ? prose(failure) : []
  at('main').replaceChildren(...[
    el('p', { className: 'over' }, m.group['x-displayName'] ?? m.group.name),
    el('h1', {}, m.name),
    el('p', { className: 'url' }, el('span', { className: 'verb ' + m.verb.toLowerCase() }, m.verb), el('code', {}, m.path.split('.').flatMap((part, i) => i ? ['.', el('wbr'), part] : [part]))),
    op.deprecated ? el('p', { className: 'note' }, 'Deprecated: new apps do without it.') : '',
    prose(op.description), form,
    content.length || op.parameters ? el('h2', {}, 'What it takes') : '',
    op.parameters ? fieldList({ required: op.parameters.filter(p => p.required).map(p => p.name), properties: Object.fromEntries(op.parameters.map(p => [p.name, { ...p.schema, description: p.description }])) }) : '',
    content.length ? bodyFields(op.requestBody.content) : '',
    el('h2', {}, 'What it answers'), bodyFields(op.responses['200']?.content, 'Nothing but its status, 200.'),
    fails.length ? el('h2', {}, 'Errors of its own') : '', fails].flat(2).filter(Boolean))
}

const compact = text => { try { return JSON.stringify(JSON.parse(text)) } catch { return text } }

// Navigation

function drawList() {
  const words = at('filter').value.toLowerCase().split(/\s+/).filter(Boolean)
  const current = decodeURIComponent(location.hash.slice(1))
  const found = methods.filter(m => words.every(w => m.searched.includes(w)))
  at('list').replaceChildren(...doc.tags.flatMap(tag => {
    const some = found.filter(m => m.group === tag)
    if (!some.length) return []
    return [el('h2', {}, tag['x-displayName'] ?? tag.name, el('span', {}, tag.name)),
      el('ul', {}, some.map(m => el('li', {}, el('a', { href: '#' + m.id, ...(m.id === current ? { 'aria-current': 'page' } : {}) }, el('span', {}, m.name.split(/(?=[A-Z])/).flatMap((part, i) => i ? [el('wbr'), part] : [part])),
        el('span', { className: 'verb ' + m.verb.toLowerCase() }, m.verb)))))]
  }), found.length ? '' : el('p', { className: 'none' }, 'No method is like that.'))
}

function openMenu(open) {
  at('nav').classList.toggle('open', open)
  at('menu').setAttribute('aria-expanded', open)
  at('menu').textContent = open ? 'Close' : 'Methods'
}

function show() {
  const id = decodeURIComponent(location.hash.slice(1))
  const m = methods.find(m => m.id === id)
  openMenu(false)
  drawList()
  m ? showMethod(m) : showStart()
  scrollTo(0, 0)
  at('list').querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' })
}

async function start() {
  at('host').textContent = location.host
  const read = async path => (await fetch(path, { credentials: 'omit' })).json()
  try {
    [doc, server] = await Promise.all([read('/openapi.json'), read('/xrpc/com.atproto.server.describeServer').catch(() => ({}))])
  } catch (e) {
    at('main').replaceChildren(el('p', { className: 'note' }, 'The server does not answer: ' + e.message))
    return
  }
  for (const [path, operations] of Object.entries(doc.paths)) {
    for (const [verb, op] of Object.entries(operations)) {
      const group = doc.tags.find(t => t.name === op.tags[0])
      methods.push({ id: op.operationId, name: op.summary, group, verb: verb.toUpperCase(), path, op,
        searched: `${op.operationId} ${group['x-displayName'] ?? ''} ${op.description ?? ''}`.toLowerCase() })
    }
  }
  invent()
  at('filter').oninput = drawList
  at('filter').onkeydown = e => {
    const first = at('list').querySelector('a')
    if (e.key === 'Enter' && first) location.hash = first.hash
  }
  at('menu').onclick = () => openMenu(!at('nav').classList.contains('open'))
  addEventListener('keydown', e => {
    if (e.key === 'Escape') openMenu(false)
    if (e.key === '/' && !/^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) {
      e.preventDefault()
      at('filter').focus()
    }
  })
  addEventListener('hashchange', () => { show(); at('main').focus({ preventScroll: true }) })
  show()
}

start()
