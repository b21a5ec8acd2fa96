package party

import (
	"net"

	"hutong/internal/limits"
)

// limiter returns the limiter of this process.
func (c LimitsConfig) limiter() *limits.Limiter {
	const mib = 1 << 20
	return limits.New(limits.Config{Requests: c.Requests, Burst: c.Burst, Uploads: c.Uploads,
		UploadBytes: int64(c.UploadMiB) * mib, Streams: c.EventStreams,
		TransferBytes: int64(c.TransportMiB) * mib})
}

// bounded returns a listener with the limits of connections.
func (c LimitsConfig) bounded(l net.Listener) net.Listener {
	return limits.Listener(l, c.Connections, c.ConnectionsPerAddress)
}

// limits checks the fields of limits.
func (v *validation) limits(c LimitsConfig) {
	for _, l := range []struct {
		field string
		n     float64
	}{{"requests_per_second", c.Requests}, {"burst", float64(c.Burst)}, {"open_jobs", float64(c.OpenJobs)},
		{"uploads", float64(c.Uploads)},
		{"upload_mib_per_day", float64(c.UploadMiB)}, {"event_streams", float64(c.EventStreams)},
		{"transport_mib_per_second", float64(c.TransportMiB)},
		{"connections", float64(c.Connections)},
		{"connections_per_address", float64(c.ConnectionsPerAddress)}} {
		if !(l.n >= 0 && l.n <= 1e9) { // rejects NaN too
			v.wrong("limits."+l.field, "must be from 0 to 1000000000, but is %v; 0 means no limit", l.n)
		}
	}
	if c.Requests > 0 && c.Burst < 1 {
		v.wrong("limits.burst", "must be at least 1 with limits.requests_per_second")
	}
}
