-- Lets a session live for another time to live, which is its value: whether it was alive.
--
-- KEYS  the session, and the records

-- A write that changes nothing: a replica, which takes sessions for expired that are not, refuses it.
redis.call('HDEL', KEYS[2], '')
local ttl = redis.call('GET', KEYS[1])
if not ttl then return 0 end
return redis.call('PEXPIRE', KEYS[1], ttl)
