-- Take a call over: the new epoch fences every earlier owner.
--
-- KEYS[1]  vg:{CALL_ID}:state    hash: epoch, owner, version, round, body
-- KEYS[2]  vg:{CALL_ID}:answers  hash
-- KEYS[3]  vg:{CALL_ID}:order    list
-- ARGV[1]  time to live, seconds
-- ARGV[2]  owner: a name of its own for each that takes a call over, "" to join its present owner
-- ARGV[3]  "" to take the call from anybody; an epoch: only where nobody has taken it since that one
--
-- Returns {status, epoch, version, body, round}; body is "" for a call with no state:
--   "claimed"  the call is the owner's, or was already: the same claim sent twice raises the epoch once
--   "fenced"   a later epoch is another's; nothing changed

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'body', 'owner', 'round')
local epoch, version, body = tonumber(stored[1] or 0), tonumber(stored[2] or 0), stored[3] or ''
local round = tonumber(stored[5] or 0)

if ARGV[2] ~= '' and ARGV[2] ~= stored[4] then
  if ARGV[3] ~= '' and epoch > tonumber(ARGV[3]) then
    return {'fenced', epoch, version, '', round}
  end
  -- An epoch below the one expected: the server has lost what it knew.
  epoch = math.max(epoch, tonumber(ARGV[3]) or 0) + 1
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'owner', ARGV[2])
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[1])
end
return {'claimed', epoch, version, body, round}
