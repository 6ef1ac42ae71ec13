-- What wrk has measured, as pktgen http --json would tell it: into the file that MILLRACE_WRK_REPORT names.
function done(summary, latency, requests)
    local file = assert(io.open(os.getenv("MILLRACE_WRK_REPORT"), "w"))
    local e = summary.errors
    local buckets = {}
    for i = 1, #latency do
        local us, count = latency(i)
        buckets[i] = string.format("[%d,%d]", us, count)
    end
    file:write(string.format('{"load":"wrk","seconds":%.6f,"responses":%d,"bytes":%d,"errors":%d,"histogram_us":[%s]}\n',
        summary.duration / 1e6, summary.requests, summary.bytes,
        e.connect + e.read + e.write + e.status + e.timeout, table.concat(buckets, ",")))
    file:close()
end
