-- Lets a session live for another time to live, which is its value: whether it was alive.
local ttl = redis.call('GET', KEYS[1])
if not ttl then return 0 end
return redis.call('PEXPIRE', KEYS[1], ttl)
