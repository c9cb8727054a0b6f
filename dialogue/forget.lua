-- Forget a call, and refuse what its owner may yet write.
--
-- KEYS[1]  vg:{CALL_ID}:state    hash: epoch, owner, version, round, body
-- KEYS[2]  vg:{CALL_ID}:answers  hash
-- KEYS[3]  vg:{CALL_ID}:order    list
--
-- Returns how many of the keys held something of the call. What is left is a number, until the key expires.

local held = redis.call('DEL', KEYS[2], KEYS[3])
if not redis.call('HGET', KEYS[1], 'body') then
  return held
end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HDEL', KEYS[1], 'owner', 'version', 'round', 'body')
return held + 1
