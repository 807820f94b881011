-- Makes the units whose records have the versions that they name, if the guards hold.
--
-- KEYS  the records, a hash: a version of 8 bytes and what was written, by name
--       the names, a sorted set without scores
--       the sessions that must be alive
-- ARGV  1  the name of the leader's record
--       2  the version that it must have; empty: there must be none; '-': it does not matter
--       3  the channel of hints
--       4  how many records each unit has: 2 bytes each
--       5  what becomes of each record: K keep, P put, D delete
--       6  the unit of each hint, from 1 on: 2 bytes each
--       then the names of the records, the versions that they must have (empty: absent), what is written
--       (with its version before it), and the hints
--
-- Everything is compared before anything is written. The first write is one that a server without memory
-- refuses: what it refuses at all it refuses there.
local CHUNK = 4000
local byte, sub = string.byte, string.sub

-- A write that changes nothing: a replica, which may lag, refuses it. Where nothing else is written, it says so.
local function of_primary(answer)
  redis.call('HDEL', KEYS[1], '')
  return answer
end

for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return of_primary({'dead', i - 3}) end
end
if ARGV[2] ~= '-' then
  local leader = redis.call('HGET', KEYS[1], ARGV[1])
  if (leader and sub(leader, 1, 8) or '') ~= ARGV[2] then return of_primary({'moved'}) end
end

local sizes, changes, hinting = ARGV[4], ARGV[5], ARGV[6]
local records, units = #changes, #sizes / 2
local names = 6
local versions = names + records
local writes = versions + records
local hints = writes + records

local stored = {}
for first = 1, records, CHUNK do
  local last = math.min(first + CHUNK - 1, records)
  local read = redis.call('HMGET', KEYS[1], unpack(ARGV, names + first, names + last))
  for i = first, last do stored[i] = read[i - first + 1] end
end

local answers, put, deleted, created = {}, {}, {}, {}
local at, puts, deletes, creates = 0, 0, 0, 0
for unit = 1, units do
  local high, low = byte(sizes, 2 * unit - 1, 2 * unit)
  local last = at + high * 256 + low
  local answer = '1'
  for i = at + 1, last do
    local present = stored[i]
    if (present and sub(present, 1, 8) or '') ~= ARGV[versions + i] then answer = '0' break end
  end
  answers[unit] = answer
  if answer == '1' then
    for i = at + 1, last do
      local change = byte(changes, i)
      if change == 80 then
        put[puts + 1], put[puts + 2] = ARGV[names + i], ARGV[writes + i]
        puts = puts + 2
        if not stored[i] then
          created[creates + 1], created[creates + 2] = 0, ARGV[names + i]
          creates = creates + 2
        end
      elseif change == 68 and stored[i] then
        deletes = deletes + 1
        deleted[deletes] = ARGV[names + i]
      end
    end
  end
  at = last
end

-- Writes that change nothing: a key of another type, or a right that the user lacks, is an error before anything is
-- written. The first is one that a server without memory refuses: it does not refuse the ones after a write.
if creates > 0 or puts > 0 and deletes > 0 then redis.call('ZADD', KEYS[2], 'XX', 0, '') end
if deletes > 0 then
  redis.call('HDEL', KEYS[1], '')
  redis.call('ZREM', KEYS[2], '')
end
local function write(command, key, items, count)
  for first = 1, count, CHUNK do
    redis.call(command, key, unpack(items, first, math.min(first + CHUNK - 1, count)))
  end
end
write('HSET', KEYS[1], put, puts)
write('ZADD', KEYS[2], created, creates)
write('HDEL', KEYS[1], deleted, deletes)
write('ZREM', KEYS[2], deleted, deletes)
for i = 1, #hinting / 2 do
  local high, low = byte(hinting, 2 * i - 1, 2 * i)
  -- What is written stays written, whatever becomes of a hint.
  if answers[high * 256 + low] == '1' then redis.pcall('PUBLISH', ARGV[3], ARGV[hints + i]) end
end
local time = redis.call('TIME')
local answer = {'done', table.concat(answers), time[1], time[2]}
return puts + deletes > 0 and answer or of_primary(answer)
