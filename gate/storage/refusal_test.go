package storage_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"hutong/gate/storage"
	"hutong/store/blob"
)

// TestRefusalsAreRecorded checks that a refusal is recorded with the user that has signed the request, if one
// has. Nothing of it reaches the party's server, which is not there in this test.
func TestRefusalsAreRecorded(t *testing.T) {
	u, err := url.Parse("s3://127.0.0.1:1?username=party&password=secret-of-the-party&bucket=bucket&secure=false")
	require.NoError(t, err)
	bucket, err := blob.ParseS3(u)
	require.NoError(t, err)
	var recorded [][2]string
	s, err := storage.New(storage.Config{Bucket: bucket, Password: password,
		Grant: func(_ *http.Request, user string) (storage.Grant, error) {
			if user != "run" {
				return storage.Grant{}, storage.ErrUnknown
			}
			return storage.Grant{Read: []string{"experiment/rows"}}, nil
		},
		OnRefusal: func(_ *http.Request, user, reason string) {
			recorded = append(recorded, [2]string{user, reason})
		},
		Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	f := &fixture{bucket: bucket, server: httptest.NewServer(s)}
	defer f.server.Close()

	for name, c := range map[string]struct{ user, password, key, by, reason string }{
		"foreign object": {"run", password("run"), "out/model", "run", "AccessDenied"},
		"wrong password": {"run", "guess", "experiment/rows/data_0", "", "SignatureDoesNotMatch"},
		"unknown user":   {"gone", password("gone"), "experiment/rows/data_0", "gone", "InvalidAccessKeyId"},
	} {
		recorded = nil
		client := f.client(t, c.user, c.password, func(o *minio.Options) { o.Region = "us-east-1" })
		_, err := f.read(t, client, c.key)
		requireCode(t, strings.Split(c.reason, ":")[0], err)
		require.Len(t, recorded, 1, name)
		require.Equal(t, c.by, recorded[0][0], name)
		require.Contains(t, recorded[0][1], c.reason, name)
		require.NotContains(t, recorded[0][1], "secret-of-the-party")
	}
}
