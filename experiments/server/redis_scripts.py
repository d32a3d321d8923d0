"""What a Redis store does in one step: Redis runs each script alone, all of it or nothing."""

WRITE = """
local prefix, forgets, most, users = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if (redis.call('GET', prefix .. 'forgets') or '0') ~= forgets then return -1 end
local at = 5
for _ = 1, users do
  local key = prefix .. 'user:' .. ARGV[at]
  if (redis.call('HGET', key, 'revision') or '0') ~= ARGV[at + 1] then return -1 end
  at = at + 6
end
at = 5
for _ = 1, users do
  local key = prefix .. 'user:' .. ARGV[at]
  if redis.call('HINCRBY', key, 'revision', 1) == 1 then redis.call('INCR', prefix .. 'users') end
  redis.call('HSET', key, 'version', ARGV[at + 2], 'state', ARGV[at + 3])
  if ARGV[at + 4] == '1' then
    redis.call('HSET', key, 'session', ARGV[at + 5])
  else
    redis.call('HDEL', key, 'session')
  end
  at = at + 6
end
local events = tonumber(ARGV[at])
if events == 0 then return 0 end
at = at + 1
local number = tonumber(redis.call('GET', prefix .. 'number') or '0')
for _ = 1, events do
  number = number + 1
  redis.call('XADD', prefix .. 'world', string.format('%.0f-0', number), 'event', ARGV[at + 3])
  local kept = prefix .. 'kept:' .. ARGV[at]
  redis.call('HSET', kept, ARGV[at + 1], ARGV[at + 2] .. ' ' .. string.format('%.0f', number))
  if redis.call('HLEN', kept) > most then
    local oldest, time = nil, nil
    for _, field in ipairs(redis.call('HKEYS', kept)) do
      local when = tonumber(string.match(field, '^%d+'))
      if time == nil or when < time or (when == time and field < oldest) then
        oldest, time = field, when
      end
    end
    redis.call('HDEL', kept, oldest)
    local user = prefix .. 'user:' .. ARGV[at]
    if time > tonumber(redis.call('HGET', user, 'dropped') or '-1') then
      redis.call('HSET', user, 'dropped', string.format('%.0f', time))
    end
  end
  at = at + 4
end
redis.call('SET', prefix .. 'number', string.format('%.0f', number))
return number
"""
"""Writes users and appends events. Returns the last event's number, or -1 where a user has changed
or anybody was forgotten since they were read.

Arguments: the prefix of keys, how many times users were forgotten, events to keep of a user; the
number of users, and of each the id, the revision that was read, version, state, 1 for a session id
or 0, and the session id; the number of events, and of each the user, "time item", 1 if it starts a
session or 0, and what the stream gets.
"""

FORGET = """
local prefix, user, digest = ARGV[1], ARGV[2], ARGV[3]
local had = redis.call('DEL', prefix .. 'user:' .. user)
redis.call('DEL', prefix .. 'kept:' .. user)
if had == 1 then redis.call('DECR', prefix .. 'users') end
local noted = 0
if digest ~= '' then noted = redis.call('SADD', prefix .. 'forgotten', digest) end
if had + noted > 0 then redis.call('INCR', prefix .. 'forgets') end
return had + noted
"""
"""Removes a user, and notes the digest if there is one. Returns 0 if there was nothing to do."""

SNAPSHOT = """
local key, number = ARGV[1], tonumber(ARGV[2])
if number <= tonumber(redis.call('HGET', key, 'number') or '-1') then return 0 end
redis.call('HSET', key, 'number', ARGV[2], 'data', ARGV[3])
redis.call('EXPIRE', key, tonumber(ARGV[4]))
return 1
"""
"""Keeps the snapshot that counts the most. Arguments: key, number, data, seconds to keep it."""
