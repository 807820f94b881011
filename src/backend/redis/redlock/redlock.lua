-- All that one of the independent servers is asked.
--
-- KEYS  1  what the server remembers, a hash: `run` and `since`, the process that answers and up to when its memory
--          goes back; `latest`, the latest time that it has seen; `term`, `zone`, of the leader; `handover`, and its
--          place among all: `of`, the term of who left it, and `seq`
--       2  the lease of the leader, which expires: attempt, node
--       then ticks, which expire: attempt, run
-- ARGV  1  what is asked
--       2  the process that the node has connected to
--       then what the question needs
--
-- Times are milliseconds since 1970, by the clock of this server alone. One that is set back is taken to stand still.
local memory, leader = KEYS[1], KEYS[2]
local asked = ARGV[1]
-- How much `latest` may lag behind.
local LATEST_EVERY = 1000
-- For how much longer than it could be asked for a tick is remembered.
local MARGIN = 2000

local time = redis.call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)
local now = wall
local known = redis.call('HMGET', memory, 'run', 'since', 'latest')
local since, latest = tonumber(known[2]), tonumber(known[3])
if latest and latest > now then now = latest end
if known[1] ~= ARGV[2] or not since then
  -- Another process than the one before, or its memory was cleared: whatever it promised before now may be forgotten.
  since = now
  redis.call('HSET', memory, 'run', ARGV[2], 'since', since, 'latest', now)
elseif not latest or now - latest >= LATEST_EVERY then
  redis.call('HSET', memory, 'latest', now)
end

local function parts(held)
  local first, rest = string.match(held, '^(%d+) (.*)$')
  return tonumber(first), rest
end

-- Gives `key` to who asks, unless somebody else has it. An attempt before of the same one may be answered late.
local function take(key, attempt, who)
  local held = redis.call('GET', key)
  if held then
    local before, holder = parts(held)
    if holder ~= who or before > attempt then return holder or '' end
  end
  return nil
end

if asked == 'read' then
  local kept = redis.call('HMGET', memory, 'term', 'zone', 'seq', 'handover')
  local held = redis.call('GET', leader)
  local holder = ''
  if held then local _, who = parts(held) holder = who end
  local left = held and redis.call('PTTL', leader) or 0
  return {since, wall, holder, left, kept[1] or '0', kept[2] or '', kept[3] or '0', kept[4] or ''}
end

if asked == 'elect' then
  -- attempt, node, lease
  local attempt, who, lease = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
  local kept = redis.call('HMGET', memory, 'term', 'zone')
  local term, zone = kept[1] or '0', kept[2] or ''
  -- It may have voted right before it forgot.
  if now < since + lease then return {'forgot', string.format('%.0f', since + lease - now), term, zone} end
  local holder = take(leader, attempt, who)
  if holder then return {'held', holder, term, zone} end
  redis.call('SET', leader, ARGV[3] .. ' ' .. who, 'PX', lease)
  return {'yes', '', term, zone}
end

if asked == 'confirm' then
  -- attempt, node, term, zone
  if redis.call('GET', leader) ~= ARGV[3] .. ' ' .. ARGV[4] then return 0 end
  if tonumber(redis.call('HGET', memory, 'term') or '0') >= tonumber(ARGV[5]) then return 0 end
  redis.call('HSET', memory, 'term', ARGV[5], 'zone', ARGV[6])
  return 1
end

if asked == 'renew' then
  -- attempt, node, lease, term, zone, sequence and handover, or none
  local mine, lease, held = ARGV[3] .. ' ' .. ARGV[4], tonumber(ARGV[5]), redis.call('GET', leader)
  if held == mine then
    redis.call('PEXPIRE', leader, lease)
  elseif held or now < since + lease or tonumber(redis.call('HGET', memory, 'term') or '0') > tonumber(ARGV[6]) then
    return 0
  else
    -- It was away when the leader was elected, or has forgotten it since: it votes for it from now on.
    redis.call('SET', leader, mine, 'PX', lease)
    redis.call('HSET', memory, 'term', ARGV[6], 'zone', ARGV[7])
  end
  if ARGV[9] ~= '' then
    -- A renewal before this one may come late, over a connection that was given up.
    local left = redis.call('HMGET', memory, 'of', 'seq')
    local of, seq = tonumber(left[1] or '0'), tonumber(left[2] or '0')
    local term, nth = tonumber(ARGV[6]), tonumber(ARGV[8])
    if term > of or term == of and nth > seq then
      redis.call('HSET', memory, 'of', ARGV[6], 'seq', ARGV[8], 'handover', ARGV[9])
    end
  end
  return wall
end

if asked == 'resign' then
  -- attempt, node
  if redis.call('GET', leader) ~= ARGV[3] .. ' ' .. ARGV[4] then return 0 end
  return redis.call('DEL', leader)
end

local answers = {}
if asked == 'vote' then
  -- attempt, then of each tick its instant, its window and the run
  local attempt = tonumber(ARGV[3])
  for i = 3, #KEYS do
    local at = 4 + (i - 3) * 3
    local due, window, run = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
    local answer
    if now < due then
      answer = 'e' .. string.format('%.0f', due - now)
    elseif now > due + window then
      -- What it voted for it still says.
      local held = redis.call('GET', KEYS[i])
      local holder = ''
      if held then local _, who = parts(held) holder = who end
      answer = holder ~= '' and holder ~= run and 'h' .. holder or 'l'
    elseif due < since then
      -- It may have voted before it forgot; of a tick that was not due then, it has not.
      answer = 'f'
    else
      local holder = take(KEYS[i], attempt, run)
      if holder then
        answer = 'h' .. holder
      else
        redis.call('SET', KEYS[i], ARGV[3] .. ' ' .. run)
        redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', due + window + MARGIN))
        answer = 'y'
      end
    end
    answers[i - 2] = answer
  end
  return answers
end

-- give back: attempt, then the run of each tick. It may come late: a vote that was asked for later stays.
for i = 3, #KEYS do
  local held = redis.call('GET', KEYS[i])
  if held then
    local before, run = parts(held)
    if run == ARGV[i + 1] and before <= tonumber(ARGV[3]) then redis.call('DEL', KEYS[i]) end
  end
end
return answers
