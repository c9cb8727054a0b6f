-- Write one dialogue step: all of it, or nothing.
--
-- KEYS[1]  vg:{CALL_ID}:state    hash: epoch, owner, version, round, body
-- KEYS[2]  vg:{CALL_ID}:answers  hash: write key -> the step's actions
-- KEYS[3]  vg:{CALL_ID}:order    list: write keys, oldest first
-- ARGV[1]  epoch of the writer
-- ARGV[2]  version that the step was computed from
-- ARGV[3]  round number, "0" where the event is no caller turn
-- ARGV[4]  write key: the same for a retry of the same step ("r" .. round for a caller turn)
-- ARGV[5]  new state, JSON
-- ARGV[6]  actions, JSON
-- ARGV[7]  time to live, seconds
-- ARGV[8]  answers kept
-- ARGV[9]  owner: the name under which the writer claimed the call, "" for one that joined
--
-- Returns {status, epoch, version, body, actions}:
--   "written"   body and actions are ""
--   "repeated"  this step is already there: its actions, the state as it is now; nothing changed
--   "fenced"    a later epoch owns the call, or the same one under another name (one of the two was given while the
--               server was away)
--   "stale"     the round is older than the answers kept
--   "conflict"  the state has moved on: body is what to step from
--
-- A state that is missing, or older than the writer's, was lost by the server (expiry, a fail-over to a
-- replica that was behind): the writer's is the best there is, so it is written.

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'round', 'body', 'owner')
local epoch, version, round = tonumber(stored[1] or 0), tonumber(stored[2] or 0), tonumber(stored[3] or 0)
local body = stored[4] or ''

-- First of all: a repeated round is answered even to a writer that has lost the call.
local actions = redis.call('HGET', KEYS[2], ARGV[4])
if actions then
  return {'repeated', epoch, version, body, actions}
end
local writer, owner = tonumber(ARGV[1]), stored[5] or ''
local others = owner ~= '' and ARGV[9] ~= '' and owner ~= ARGV[9]
if epoch > writer or (epoch == writer and others) then
  return {'fenced', epoch, version, '', ''}
end
if ARGV[3] ~= '0' and tonumber(ARGV[3]) <= round then
  return {'stale', epoch, version, '', ''}
end
if version > tonumber(ARGV[2]) then
  return {'conflict', epoch, version, body, ''}
end

if epoch < writer then
  redis.call('HSET', KEYS[1], 'owner', ARGV[9])
end
version = tonumber(ARGV[2]) + 1
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', version, 'body', ARGV[5])
if ARGV[3] ~= '0' then
  redis.call('HSET', KEYS[1], 'round', ARGV[3])
end
redis.call('HSET', KEYS[2], ARGV[4], ARGV[6])
if redis.call('RPUSH', KEYS[3], ARGV[4]) > tonumber(ARGV[8]) then
  redis.call('HDEL', KEYS[2], redis.call('LPOP', KEYS[3]))
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[7])
end
return {'written', tonumber(ARGV[1]), version, '', ''}
