-- A page of the records of one kind, in the order of their names: whether there may be more, and names and
-- records in turn.
--
-- KEYS  the records, and the names
-- ARGV  the bounds of the names; how many at most; after how many bytes it is enough
local CHUNK = 64
-- A write that changes nothing: a replica, which may lag, refuses it.
redis.call('HDEL', KEYS[1], '')
local names = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local page = {#names == tonumber(ARGV[3]) and 1 or 0}
local bytes = 0
for first = 1, #names, CHUNK do
  local last = math.min(first + CHUNK - 1, #names)
  local records = redis.call('HMGET', KEYS[1], unpack(names, first, last))
  for i = first, last do
    local record = records[i - first + 1]
    if record then
      page[#page + 1] = names[i]
      page[#page + 1] = record
      bytes = bytes + #record
    end
  end
  if bytes >= tonumber(ARGV[4]) and last < #names then
    page[1] = 1
    break
  end
end
return page
