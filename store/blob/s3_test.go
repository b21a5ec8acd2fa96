package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

// putRecorder records which objects are put, in order, and fails to put those whose name is refused.
type putRecorder struct {
	mu      sync.Mutex
	puts    []string
	refused string
}

var errRefused = errors.New("refused by the test")

func (p *putRecorder) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut {
		p.mu.Lock()
		name := path.Base(r.URL.Path)
		p.puts = append(p.puts, name)
		p.mu.Unlock()
		if name == p.refused {
			return nil, errRefused
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// The object "metadata" is put last, so that who sees it sees a whole dataset. A Create that fails in the
// middle removes what it put.
func TestS3CreatePutsMetadataLast(t *testing.T) {
	t.Parallel()
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	bucket := "hutong-test-" + strings.ToLower(rand.Text())
	q.Set("bucket", bucket)
	u.RawQuery = q.Encode()
	ctx := t.Context()
	_, err = Open(ctx, u.String()) // makes the bucket
	require.NoError(t, err)

	for _, refused := range []string{"", "data_1", "metadata"} {
		recorder := &putRecorder{refused: refused}
		client, err := minio.New(
			u.Host,
			&minio.Options{Transport: recorder, Region: "us-east-1", MaxRetries: 1,
				Creds: credentials.NewStaticV4(q.Get("username"), q.Get("password"), "")},
		)
		require.NoError(t, err)
		s := &S3{client: client, bucket: bucket}
		err = s.Create(ctx, "ns/d", func(dir string) error {
			for _, name := range []string{"metadata", "data_0", "data_1"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
					return err
				}
			}
			return nil
		})
		objects, listErr := s.list(ctx, "")
		require.NoError(t, listErr)
		if refused != "" {
			require.ErrorIs(t, err, errRefused)
			require.Empty(t, objects)
			continue
		}
		require.NoError(t, err)
		require.Len(t, objects, 3)
		require.Len(t, recorder.puts, 3)
		require.Equal(t, "metadata", recorder.puts[2])
		require.NoError(t, s.DeletePrefix(ctx, "ns"))
	}
}

// TestS3ThroughProxy opens a bucket of a server that only the proxy can resolve.
func TestS3ThroughProxy(t *testing.T) {
	hosts := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		w.WriteHeader(http.StatusOK)
	}))
	defer proxy.Close()
	const address = "s3://s3.invalid:9000?username=u&password=p&bucket=data"
	rule, err := httpclient.NewProxy(proxy.URL, nil)
	require.NoError(t, err)
	_, err = OpenThrough(t.Context(), address, rule)
	require.NoError(t, err)
	require.Equal(t, "s3.invalid:9000", <-hosts)

	t.Setenv("HTTP_PROXY", proxy.URL)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = Open(ctx, address)
	require.Error(t, err, "the environment's proxy is not used")
	require.Empty(t, hosts)
}

// TestS3Full checks that a server without space is unavailable, and says so.
func TestS3Full(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
	}{{"XMinioStorageFull", 507}, {"QuotaExceeded", 403}, {"XMinioAdminBucketQuotaExceeded", 400}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				return
			}
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte("<Error><Code>" + c.code + "</Code><Message>full</Message></Error>"))
		}))
		store, err := Open(t.Context(), "s3://"+strings.TrimPrefix(server.URL, "http://")+
			"?username=u&password=p&bucket=data")
		require.NoError(t, err)
		err = store.Put(t.Context(), "a/b", strings.NewReader("x"))
		require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err), "%s: %v", c.code, err)
		require.Equal(t, "the storage has no space left on its disk", bfia.MessageOf(err))
		server.Close()
	}
}
