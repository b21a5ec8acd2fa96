package interop

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/test/interop/fateflow"
	"hutong/test/testenv/ports"
)

// s3 is an S3 server with a bucket for each party's storage.
type s3 struct{ address string }

// startS3 starts the S3 server on an address that the containers of both parties reach.
func startS3(t *testing.T, dir, cache string, ip netip.Addr) *s3 {
	port, err := ports.Free(ip.String(), 1)
	require.NoError(t, err)
	s := &s3{address: netip.AddrPortFrom(ip, uint16(port)).String()}
	program, args, env, err := fateflow.StorageCommand(cache, s.address, filepath.Join(dir, "s3"),
		"hutong", "fate")
	require.NoError(t, err)
	p := launch(t, dir, "s3", env, program, args...)
	p.await(t, time.Minute, func() bool { return isListening(s.address) })
	return s
}

func (s *s3) url(bucket string) string { return fateflow.StorageURL(s.address, bucket) }
