-- Take a call over: the new epoch fences every earlier owner.
--
-- KEYS[1]  vg:{CALL_ID}:state    hash: epoch, version, round, body
-- KEYS[2]  vg:{CALL_ID}:answers  hash
-- KEYS[3]  vg:{CALL_ID}:order    list
-- ARGV[1]  time to live, seconds
-- ARGV[2]  "1" to own the call alone, "0" to join its present owner
--
-- Returns {epoch, version, body}; body is "" for a call with no state.

local epoch
if ARGV[2] == '1' then
  epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
else
  epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[1])
end
local stored = redis.call('HMGET', KEYS[1], 'version', 'body')
return {epoch, tonumber(stored[1] or 0), stored[2] or ''}
