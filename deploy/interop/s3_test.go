package interop

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// s3 is an S3 server for both parties' storage, a bucket for each.
type s3 struct{ address string }

const (
	s3User   = "interop"
	s3Secret = "interop-secret"
)

// startS3 serves on an address that containers of both parties reach.
func startS3(t *testing.T, dir, program string, ip netip.Addr) *s3 {
	s := &s3{address: netip.AddrPortFrom(ip, freePort(t, ip)).String()}
	root := filepath.Join(dir, "s3")
	for _, bucket := range []string{"hutong", "fate"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, bucket), 0o750)) // a folder is a bucket
	}
	env := []string{"ROOT_ACCESS_KEY=" + s3User, "ROOT_SECRET_KEY=" + s3Secret}
	p := launch(t, dir, "s3", env, program, "--port", s.address, "posix", root)
	p.await(t, time.Minute, func() bool { return listening(s.address) })
	return s
}

func (s *s3) url(bucket string) string {
	return fmt.Sprintf("s3://%s?%s", s.address, url.Values{"username": {s3User}, "password": {s3Secret}, "bucket": {bucket}}.Encode())
}
