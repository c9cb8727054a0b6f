-- Forget a call, and refuse what its owner may yet write.
--
-- KEYS[1]  vg:{CALL_ID}:state    hash: epoch, owner, version, round, body
-- KEYS[2]  vg:{CALL_ID}:answers  hash
-- KEYS[3]  vg:{CALL_ID}:order    list
--
-- Returns 1 where there was a state, else 0. What is left is a number, until the key expires.

redis.call('DEL', KEYS[2], KEYS[3])
if not redis.call('HGET', KEYS[1], 'body') then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HDEL', KEYS[1], 'owner', 'version', 'round', 'body')
return 1
