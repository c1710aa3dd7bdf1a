-- Tells the figures of a run of wrk as one line of JSON. It has no part in the run itself.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"microseconds":%d,"requests":%d,"octets":%d,"p50":%d,"p99":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}',
    summary.duration, summary.requests, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
