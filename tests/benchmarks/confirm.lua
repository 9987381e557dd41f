-- Confirms sign-ups s0, s1, s2 ... each once, and says as JSON how it went.
local number = -1

request = function()
  number = number + 1
  return wrk.format("POST", "/signups/s" .. number .. "/confirm", { ["Content-Length"] = "0" })
end

done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format(
    '{"confirmed": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
