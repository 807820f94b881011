-- Reads records, and whether sessions are alive, at one instant: the time, which sessions are alive, and the
-- records.
--
-- KEYS  the records, and the sessions
-- ARGV  the names of the records
--
-- A script, since a server without memory refuses transactions that only read.

-- A write that changes nothing: a replica, which may lag and takes sessions for expired that are not, refuses it.
redis.call('HDEL', KEYS[1], '')
local alive = {}
for i = 2, #KEYS do alive[i - 1] = redis.call('EXISTS', KEYS[i]) end
local records = #ARGV > 0 and redis.call('HMGET', KEYS[1], unpack(ARGV)) or {}
local time = redis.call('TIME')
return {time[1], time[2], table.concat(alive), records}
