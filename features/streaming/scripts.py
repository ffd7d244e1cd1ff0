"""What Redis does in one step, in Lua. All keys of a call share one hash tag; those made from a prefix do, too.

Integers travel as text: Lua's numbers are doubles. Garbage is collected often, for Lua's table of strings hashes
packed integers badly (it looks at every n-th byte, most of which are 0), and gets slow where many are held.
"""

from __future__ import annotations

_PACK = """
local FIELDS = {'kind', 'source', 'by', 'first', 'known_at', 'data'}
local function pack(entries)
  local ids, lengths, parts = {}, {}, {}
  for i, entry in ipairs(entries) do
    local given = {}
    for j = 1, #entry[2], 2 do given[entry[2][j]] = entry[2][j + 1] end
    ids[i] = entry[1]
    for _, name in ipairs(FIELDS) do
      local value = given[name] or ''
      lengths[#lengths + 1] = struct.pack('<I4', #value)
      parts[#parts + 1] = value
    end
  end
  return {table.concat(ids, ' '), table.concat(lengths), table.concat(parts)}
end
local function size(entries)
  local bytes = 0
  for _, entry in ipairs(entries) do
    for _, text in ipairs(entry[2]) do bytes = bytes + #text end
  end
  return bytes
end
local function gather(count, limit, more)
  local found, bytes, last = {}, 0, nil
  while #found < count and bytes < limit do
    local part = more(math.min(math.max(16, #found), count - #found), last)
    if not part or #part == 0 then break end
    for _, entry in ipairs(part) do found[#found + 1] = entry end
    bytes, last = bytes + size(part), part[#part][1]
  end
  return found
end
"""

READ = (
    _PACK
    + """
-- new entries for the holder of the lease; keys: lease, log; args: token, lease ms, group, entries, bytes
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return pack(gather(tonumber(ARGV[4]), tonumber(ARGV[5]), function(count)
  local got = redis.call('XREADGROUP', 'GROUP', ARGV[3], ARGV[1], 'COUNT', count, 'STREAMS', KEYS[2], '>')
  return got and got[1][2]
end))
"""
)

APPLIED = (
    _PACK
    + """
-- entries after one and up to another, their dropped rows, and the cursor, which may be before them
-- keys: log, dropped, cursor; args: after, until, entries, bytes
local entries = gather(tonumber(ARGV[3]), tonumber(ARGV[4]), function(count, last)
  return redis.call('XRANGE', KEYS[1], '(' .. (last or ARGV[1]), ARGV[2], 'COUNT', count)
end)
local dropped = {}
if redis.call('EXISTS', KEYS[2]) == 1 then
  for _, entry in ipairs(entries) do
    local rows = redis.call('HGET', KEYS[2], entry[1])
    if rows then
      dropped[#dropped + 1] = entry[1]
      dropped[#dropped + 1] = rows
    end
  end
end
return {redis.call('GET', KEYS[3]) or '0', dropped, pack(entries)}
"""
)

TAKE = """
-- what another worker had read and not applied is delivered again; keys: lease, log; args: token, group, cursor
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local groups = redis.call('EXISTS', KEYS[2]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[2]) or {}
for _, group in ipairs(groups) do
  if group[2] == ARGV[2] then
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], ARGV[2])) do
      redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], consumer[2])
    end
    redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], ARGV[3])
    return 1
  end
end
redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], ARGV[3], 'MKSTREAM')
return 1
"""

VALUES = """
-- the values of many keys; keys: any of the tag; args: per view: prefix, lengths of the names, names joined
local answer = {}
for first = 1, #ARGV, 3 do
  local keys, lengths, parts, from = {}, {}, {}, 1
  for at = 1, #ARGV[first + 1], 4 do
    local length = struct.unpack('<I4', ARGV[first + 1], at)
    keys[#keys + 1] = ARGV[first] .. string.sub(ARGV[first + 2], from, from + length - 1)
    from = from + length
  end
  for i = 1, #keys, 200 do
    local chunk = {}
    for _, value in ipairs(redis.call('MGET', unpack(keys, i, math.min(i + 199, #keys)))) do
      lengths[#lengths + 1] = struct.pack('<I4', value and #value or 0)
      if value then chunk[#chunk + 1] = value end
    end
    parts[#parts + 1] = table.concat(chunk)
    chunk = nil
    collectgarbage()
  end
  answer[#answer + 1] = table.concat(lengths)
  answer[#answer + 1] = table.concat(parts)
end
return answer
"""

COMMIT = """
-- write, acknowledge and move on, if the lease and the cursor are as the worker believes
-- keys: lease, cursor, log, counters, dropped, views; args: token, lease ms, group, what (JSON), then bytes:
-- per seen key, per dropped entry, and per view: lengths of names and values, names joined, values joined
-- nothing is taken back when a call fails, and while the slot is moved to another node of a cluster, calls for keys
-- that are not here fail: so two that nobody has are asked for first, which on both nodes fails until it is moved
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lease' end
local what = cjson.decode(ARGV[4])
if (redis.call('GET', KEYS[2]) or '0') ~= what.cursor then return 'cursor' end
if what.first then
  local entry = redis.call('XRANGE', KEYS[3], '(' .. what.after, '+', 'COUNT', 1)[1]
  if not entry or entry[1] ~= what.first then return 'gap' end
end
redis.call('EXISTS', KEYS[1] .. ':moving', KEYS[1] .. ':moved')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local at = 5
for _, seen in ipairs(what.seen) do
  redis.call('APPEND', seen[1], ARGV[at])
  if seen[2] ~= '0' then redis.call('EXPIRE', seen[1], seen[2]) end
  at = at + 1
end
for _, entry in ipairs(what.dropped) do
  redis.call('HSET', KEYS[5], entry, ARGV[at])
  at = at + 1
end
for _, view in ipairs(what.values) do
  local prefix, expire, lengths, names, values = view[1], view[2], ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local from, start = 1, 1
  for place = 1, #lengths, 8 do
    if place % 1600 == 1 then collectgarbage() end
    local name, value = struct.unpack('<I4I4', lengths, place)
    local has_expiry = name >= 2147483648
    if has_expiry then name = name - 2147483648 end
    local key, packed = prefix .. string.sub(names, from, from + name - 1), string.sub(values, start, start + value - 1)
    if expire == '0' then redis.call('SET', key, packed)
    elseif has_expiry then redis.call('SET', key, packed, 'KEEPTTL')
    else redis.call('SET', key, packed, 'EX', expire) end
    from, start = from + name, start + value
  end
  at = at + 3
end
for _, key in ipairs(what.forget) do redis.call('UNLINK', key) end
for name, count in pairs(what.counts) do redis.call('HINCRBY', KEYS[4], name, count) end
for name, value in pairs(what.marks) do redis.call('HSET', KEYS[4], name, value) end
for _, digest in ipairs(what.views) do redis.call('SADD', KEYS[6], digest) end
for i = 1, #what.entries, 1000 do
  redis.call('XACK', KEYS[3], ARGV[3], unpack(what.entries, i, math.min(i + 999, #what.entries)))
end
if what.to then redis.call('SET', KEYS[2], what.to) end
return 'done'
"""

TRIM = """
-- forget entries that are in the offline log, unless the cursor was set back before them and they are applied again
-- keys: log, counters, dropped, cursor; args: first id to keep, position of the last to forget, entries to forget
local cursor = redis.call('GET', KEYS[4]) or '0'
if #cursor < #ARGV[2] or #cursor == #ARGV[2] and cursor < ARGV[2] then return 0 end
local trimmed = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
if trimmed > 0 then redis.call('HINCRBY', KEYS[2], 'trimmed', trimmed) end
for i = 3, #ARGV, 1000 do redis.call('HDEL', KEYS[3], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return trimmed
"""

HEARTBEAT = """
-- tell of a worker, and whether it wishes for more; how many are alive, and how many others wish
-- keys: workers, wishes; args: worker, ms after which one counts as gone, whether it wishes
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZADD', KEYS[1], ms + ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
for _, key in ipairs(KEYS) do redis.call('ZREMRANGEBYSCORE', key, '-inf', ms) end
local alive, wishing = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
if ARGV[3] == '1' then redis.call('ZADD', KEYS[2], ms + ARGV[2], ARGV[1]) end
return {alive, wishing}
"""

RENEW = """
-- keep a lease; keys: lease; args: token, lease ms
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0
"""

RELEASE = """
-- give a lease back; keys: lease; args: token
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
"""
