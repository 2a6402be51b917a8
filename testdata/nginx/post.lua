-- A script for wrk: POST /echo from all connections at once, every 50 ms, and in the
-- end all that wrk has counted, as one line of JSON.
--
-- The bursts make nginx keep as many connections to the server as it may, with
-- nothing to do until the next one.
--
-- wrk cuts the requests that are under way when it is told to stop. So it is first
-- told to fall silent: by a file, the first argument. Once that exists, each
-- connection writes one byte into it in place of its next request.

local ffi = require("ffi")
ffi.cdef("struct holdfast_time { long s, ns; }; int clock_gettime(int, struct holdfast_time *);")

wrk.method = "POST"
wrk.body = string.rep("holdfast ", 14)
wrk.headers["Content-Type"] = "text/plain"

local every = 50 -- ms
local forever = 3600 * 1000
local now = ffi.new("struct holdfast_time")
local silence

function init(args)
  silence = args[1]
end

function delay()
  local file = io.open(silence, "r")
  if file ~= nil then
    file:close()
    file = assert(io.open(silence, "a"))
    file:write(".")
    file:close()
    return forever
  end
  ffi.C.clock_gettime(1, now) -- CLOCK_MONOTONIC
  return every - tonumber(now.ns) / 1e6 % every
end

function done(summary)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, e.connect, e.read, e.write, e.timeout, e.status))
end
