package storage_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"hutong/gate/storage"
	"hutong/store/blob"
)

// fixture is a storage before a new bucket of the S3 server at HUTONG_TEST_S3.
type fixture struct {
	bucket blob.S3Address
	own    *minio.Client // with the party's credentials
	server *httptest.Server
	grants map[string]storage.Grant // by user
}

// newFixture fills a bucket with an input and an output of the user run, and an object of another run.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set("bucket", "hutong-gate-"+strings.ToLower(rand.Text()))
	u.RawQuery = q.Encode()
	_, err = blob.Open(t.Context(), u.String()) // creates the bucket
	require.NoError(t, err)

	f := &fixture{grants: map[string]storage.Grant{
		"run":   {Read: []string{"experiment/rows"}, Write: []string{"out/model", "out/report"}},
		"other": {Write: []string{"out/model2"}},
	}}
	f.bucket, err = blob.ParseS3(u)
	require.NoError(t, err)
	f.own, _, err = f.bucket.Client(blob.Connection{})
	require.NoError(t, err)
	s, err := storage.New(storage.Config{Bucket: f.bucket, Password: password,
		Grant: func(_ *http.Request, user string) (storage.Grant, error) {
			if grant, ok := f.grants[user]; ok {
				return grant, nil
			}
			return storage.Grant{}, storage.ErrUnknown
		},
		Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	f.server = httptest.NewServer(s)
	t.Cleanup(f.server.Close)
	for key, text := range map[string]string{"experiment/rows/data_0": "1,2,3",
		"experiment/rows2/data_0": "foreign",
		"out/model2/model":        "foreign", "out/report/a b+c/é.json": "report", "secret": "foreign"} {
		_, err := f.own.PutObject(
			t.Context(),
			f.bucket.Bucket,
			key,
			strings.NewReader(text),
			int64(len(text)),
			minio.PutObjectOptions{},
		)
		require.NoError(t, err)
	}
	return f
}

func password(user string) string { return "password of " + user }

// client returns a client of the gate.
func (f *fixture) client(t *testing.T, user, password string, options ...func(*minio.Options)) *minio.Client {
	t.Helper()
	o := &minio.Options{
		Creds:        credentials.NewStaticV4(user, password, ""),
		BucketLookup: minio.BucketLookupPath,
	}
	for _, set := range options {
		set(o)
	}
	client, err := minio.New(strings.TrimPrefix(f.server.URL, "http://"), o)
	require.NoError(t, err)
	return client
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, minio.ToErrorResponse(err).Code, "%v", err)
}

func (f *fixture) read(t *testing.T, client *minio.Client, key string) (string, error) {
	t.Helper()
	object, err := client.GetObject(t.Context(), f.bucket.Bucket, key, minio.GetObjectOptions{})
	require.NoError(t, err)
	defer object.Close()
	text, err := io.ReadAll(object)
	return string(text), err
}

// A run reads its inputs, and reads, writes and deletes its outputs, with the client's signature of the whole
// body, of each chunk, with a trailer, and over several parts.
func TestRunUsesItsObjects(t *testing.T) {
	f := newFixture(t)
	for name, option := range map[string]func(*minio.Options){
		"signed chunks": func(*minio.Options) {},
		"trailer":       func(o *minio.Options) { o.TrailingHeaders = true },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, client := t.Context(), f.client(t, "run", password("run"), option)
			text, err := f.read(t, client, "experiment/rows/data_0")
			require.NoError(t, err)
			require.Equal(t, "1,2,3", text)

			for _, size := range []int{0, 1, 64 << 10, 200_000, 6 << 20} {
				body := make([]byte, size)
				_, _ = rand.Read(body)
				_, err := client.PutObject(ctx, f.bucket.Bucket, "out/model/x y+z/模型", bytes.NewReader(body),
					int64(size), minio.PutObjectOptions{UserMetadata: map[string]string{"Kind": "model"}})
				require.NoError(t, err, size)
				got, err := f.read(t, client, "out/model/x y+z/模型")
				require.NoError(t, err)
				require.True(t, got == string(body), size)
				stored, err := f.read(t, f.own, "out/model/x y+z/模型")
				require.NoError(t, err)
				require.True(t, stored == string(body), size)
				info, err := client.StatObject(ctx, f.bucket.Bucket, "out/model/x y+z/模型",
					minio.StatObjectOptions{})
				require.NoError(t, err)
				require.Equal(t, "model", info.UserMetadata["Kind"])
				require.EqualValues(t, size, info.Size)
			}

			big := make([]byte, 12<<20)
			_, _ = rand.Read(big)
			_, err = client.PutObject(ctx, f.bucket.Bucket, "out/model/big", bytes.NewReader(big), -1,
				minio.PutObjectOptions{PartSize: 5 << 20})
			require.NoError(t, err, "in parts")
			stored, err := f.read(t, f.own, "out/model/big")
			require.NoError(t, err)
			require.True(t, stored == string(big))

			part, err := client.GetObject(ctx, f.bucket.Bucket, "out/model/big", minio.GetObjectOptions{})
			require.NoError(t, err)
			middle := make([]byte, 1000)
			_, err = part.ReadAt(middle, 6<<20)
			require.NoError(t, err)
			require.Equal(t, big[6<<20:6<<20+1000], middle)

			_, err = client.CopyObject(
				ctx,
				minio.CopyDestOptions{Bucket: f.bucket.Bucket, Object: "out/report/copy"},
				minio.CopySrcOptions{Bucket: f.bucket.Bucket, Object: "experiment/rows/data_0"},
			)
			require.NoError(t, err)
			text, err = f.read(t, f.own, "out/report/copy")
			require.NoError(t, err)
			require.Equal(t, "1,2,3", text)

			require.NoError(t, client.RemoveObject(ctx, f.bucket.Bucket, "out/model/big",
				minio.RemoveObjectOptions{}))
			_, err = f.read(t, client, "out/model/big")
			requireCode(t, minio.NoSuchKey, err)
			location, err := client.GetBucketLocation(ctx, f.bucket.Bucket)
			require.NoError(t, err)
			require.Equal(t, "us-east-1", location)
			exists, err := client.BucketExists(ctx, f.bucket.Bucket)
			require.NoError(t, err)
			require.True(t, exists)
			requireCode(t, minio.BucketAlreadyOwnedByYou,
				client.MakeBucket(ctx, f.bucket.Bucket, minio.MakeBucketOptions{}))
		})
	}
}

// A list holds the run's own objects only, and pages as S3 does.
func TestListHoldsOwnObjects(t *testing.T) {
	f := newFixture(t)
	ctx, client := t.Context(), f.client(t, "run", password("run"))
	for i := range 5 {
		_, err := client.PutObject(ctx, f.bucket.Bucket, fmt.Sprintf("out/model/part/%d", i),
			strings.NewReader("x"), 1, minio.PutObjectOptions{})
		require.NoError(t, err)
	}
	list := func(client *minio.Client, o minio.ListObjectsOptions) (keys []string) {
		for object := range client.ListObjectsIter(ctx, f.bucket.Bucket, o) {
			require.NoError(t, object.Err)
			keys = append(keys, object.Key)
		}
		return keys
	}
	all := []string{"experiment/rows/data_0", "out/model/part/0", "out/model/part/1", "out/model/part/2",
		"out/model/part/3", "out/model/part/4", "out/report/a b+c/é.json"}
	for _, o := range []minio.ListObjectsOptions{{}, {UseV1: true}, {MaxKeys: 2}, {MaxKeys: 2, UseV1: true}} {
		o.Recursive = true
		require.Equal(t, all, list(client, o), "%+v", o)
		o.Recursive = false
		require.Equal(t, []string{"experiment/", "out/"}, list(client, o), "%+v", o)
		o.Prefix = "out/"
		require.Equal(t, []string{"out/model/", "out/report/"}, list(client, o), "%+v", o)
		o.Prefix = "out/model/part/"
		require.Equal(t, all[1:6], list(client, o), "%+v", o)
	}
	for prefix, expected := range map[string][]string{"out/model": all[1:6], "out/model/part/3": {all[4]},
		"out/report/a b+": {all[6]}} {
		require.Equal(
			t,
			expected,
			list(client, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}),
			prefix,
		)
	}
	for _, prefix := range []string{"out/model2", "out/model2/", "secret", "experiment/rows2/", "_log/"} {
		for object := range client.ListObjectsIter(ctx, f.bucket.Bucket,
			minio.ListObjectsOptions{Prefix: prefix}) {
			requireCode(t, "AccessDenied", object.Err)
		}
	}
}

// Whatever a run tries with an object that is not its own is refused, whether or not the object exists, and
// changes nothing.
func TestForeignObjectsAreRefused(t *testing.T) {
	f := newFixture(t)
	ctx, client, bucket := t.Context(), f.client(t, "run", password("run")), f.bucket.Bucket
	for _, key := range []string{"secret", "experiment/rows2/data_0", "out/model2/model", "out/model2/new",
		"new",
		"experiment/rows", "out/model", "_log/x", ".tmp/commit/x", "out/model/../../secret",
		"out/model/./x", "out//model/x", "out/model/.hidden", "experiment/rows/../../secret"} {
		_, err := f.read(t, client, key)
		require.Contains(
			t,
			[]string{"AccessDenied", "SignatureDoesNotMatch"},
			minio.ToErrorResponse(err).Code,
			"%s: %v",
			key,
			err,
		)
		_, err = client.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
		require.Equal(t, http.StatusForbidden, minio.ToErrorResponse(err).StatusCode, "%s: %v", key, err)
		put := func() error {
			_, err := client.PutObject(
				ctx,
				bucket,
				key,
				strings.NewReader("forged"),
				6,
				minio.PutObjectOptions{},
			)
			return err
		}
		require.Equal(t, http.StatusForbidden, minio.ToErrorResponse(put()).StatusCode, key)
		_, err = client.PutObject(ctx, bucket, key, bytes.NewReader(make([]byte, 12<<20)), -1,
			minio.PutObjectOptions{PartSize: 5 << 20})
		require.Equal(t, http.StatusForbidden, minio.ToErrorResponse(err).StatusCode, "%s: %v", key, err)
		require.Error(t, client.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{}))
		_, err = client.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "out/model/stolen"},
			minio.CopySrcOptions{Bucket: bucket, Object: key})
		require.Error(t, err, key)
	}
	objects := make(chan minio.ObjectInfo, 3)
	for _, key := range []string{"secret", "out/model2/model", "experiment/rows/data_0"} {
		objects <- minio.ObjectInfo{Key: key}
	}
	close(objects)
	refused := 0
	for failure := range client.RemoveObjects(ctx, bucket, objects, minio.RemoveObjectsOptions{}) {
		require.Error(t, failure.Err)
		refused++
	}
	require.Equal(t, 3, refused)
	// An input can't be changed.
	for _, key := range []string{"experiment/rows/data_0", "experiment/rows/new"} {
		_, err := client.PutObject(ctx, bucket, key, strings.NewReader("forged"), 6, minio.PutObjectOptions{})
		requireCode(t, "AccessDenied", err)
		requireCode(t, "AccessDenied", client.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{}))
	}
	_, err := f.read(t, f.client(t, "other", password("other")), "out/report/a b+c/é.json")
	requireCode(t, "AccessDenied", err)
	_, err = client.PutObject(ctx, "other-bucket", "out/model/x", strings.NewReader("x"), 1,
		minio.PutObjectOptions{})
	requireCode(t, "AccessDenied", err)
	for _, ask := range []func() error{
		func() error { return client.SetBucketPolicy(ctx, bucket, `{"Version":"2012-10-17"}`) },
		func() error { return client.RemoveBucket(ctx, bucket) },
		func() error { _, err := client.GetBucketPolicy(ctx, bucket); return err },
		func() error { _, err := client.GetObjectACL(ctx, bucket, "out/model/x"); return err },
		func() error { return client.EnableVersioning(ctx, bucket) },
	} {
		requireCode(t, "NotImplemented", ask())
	}

	for key, text := range map[string]string{"secret": "foreign", "out/model2/model": "foreign",
		"experiment/rows/data_0": "1,2,3"} {
		got, err := f.read(t, f.own, key)
		require.NoError(t, err)
		require.Equal(t, text, got)
	}
	var left int
	for object := range f.own.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		require.NoError(t, object.Err)
		left++
	}
	require.Equal(t, 5, left)
}

// A request with a wrong, an old or a borrowed signature is refused.
func TestSignatureIsChecked(t *testing.T) {
	f := newFixture(t)
	_, err := f.read(t, f.client(t, "run", "guessed"), "experiment/rows/data_0")
	requireCode(t, "SignatureDoesNotMatch", err)
	_, err = f.read(t, f.client(t, "run", password("other")), "experiment/rows/data_0")
	requireCode(t, "SignatureDoesNotMatch", err)
	_, err = f.read(t, f.client(t, "nobody", password("nobody")), "experiment/rows/data_0")
	requireCode(t, "InvalidAccessKeyId", err)
	_, err = f.read(t, f.client(t, f.bucket.User, f.bucket.Password), "experiment/rows/data_0")
	require.Error(t, err, "the party's own credentials are not those of a run")

	target := f.server.URL + "/" + f.bucket.Bucket + "/experiment/rows/data_0"
	status := func(method, target string, change func(*http.Request)) int {
		r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
		require.NoError(t, err)
		if change != nil {
			change(r)
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NotContains(t, string(text), f.bucket.Password)
		require.NotContains(t, string(text), password("run"))
		return answer.StatusCode
	}
	require.Equal(t, http.StatusForbidden, status("GET", target, nil), "no signature")

	client := f.client(t, "run", password("run"))
	signed, err := client.PresignedGetObject(
		t.Context(),
		f.bucket.Bucket,
		"experiment/rows/data_0",
		time.Minute,
		nil,
	)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status("GET", signed.String(), nil))
	require.Equal(t, http.StatusForbidden, status("DELETE", signed.String(), nil), "another method")
	for from, to := range map[string]string{"rows": "rows2", "X-Amz-Expires=60": "X-Amz-Expires=600",
		"Credential=run": "Credential=other"} {
		changed := strings.Replace(signed.String(), from, to, 1)
		require.NotEqual(t, signed.String(), changed)
		require.Equal(t, http.StatusForbidden, status("GET", changed, nil), changed)
	}
	old := &url.URL{Scheme: "http", Host: signed.Host, Path: signed.Path, RawQuery: signed.RawQuery}
	q := old.Query()
	q.Set("X-Amz-Date", "20200101T000000Z")
	old.RawQuery = q.Encode()
	require.Equal(t, http.StatusBadRequest, status("GET", old.String(), nil), "the date is another one's")
}

// A body that is not the one its client signed is never stored, also if only its last byte differs.
func TestForgedBodyIsNotStored(t *testing.T) {
	f := newFixture(t)
	body := bytes.Repeat([]byte("0123456789"), 20_000)
	for name, o := range map[string]minio.Options{
		"signed chunks": {},
		"trailer":       {TrailingHeaders: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, at := range []string{"first", "last"} {
				o.Creds = credentials.NewStaticV4("run", password("run"), "")
				o.BucketLookup, o.Region = minio.BucketLookupPath, "us-east-1"
				o.Transport = forger{at}
				o.MaxRetries = 1
				client, err := minio.New(strings.TrimPrefix(f.server.URL, "http://"), &o)
				require.NoError(t, err)
				_, err = client.PutObject(
					t.Context(),
					f.bucket.Bucket,
					"out/model/forged",
					bytes.NewReader(body),
					int64(len(body)),
					minio.PutObjectOptions{},
				)
				require.Error(t, err)
				_, err = f.read(t, f.own, "out/model/forged")
				requireCode(t, minio.NoSuchKey, err)
			}
		})
	}
}

// forger changes one byte of each body after it was signed.
type forger struct{ at string }

func (f forger) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength < 1000 {
		return http.DefaultTransport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	i := bytes.IndexByte(body, '\n') + 1
	if f.at == "last" {
		i = bytes.LastIndexByte(body, '9')
		for i > 10 && !bytes.Equal(body[i-9:i+1], []byte("0123456789")) {
			i--
		}
	}
	body[i] ^= 1
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return http.DefaultTransport.RoundTrip(r)
}

// If the server does not answer, the container gets an answer on which it tries again, without the party's
// secrets.
func TestServerAway(t *testing.T) {
	s, err := storage.New(storage.Config{Bucket: blob.S3Address{Host: "127.0.0.1:1", User: "party",
		Password: "canary", Bucket: "bucket", Region: "us-east-1"}, Password: password,
		Grant: func(_ *http.Request, user string) (storage.Grant, error) {
			if user == "failing" {
				return storage.Grant{}, errors.New("the database does not answer at canary")
			}
			return storage.Grant{Read: []string{"a/b"}}, nil
		}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	server := httptest.NewServer(s)
	defer server.Close()
	for _, user := range []string{"run", "failing"} {
		client, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{MaxRetries: 1,
			Creds: credentials.NewStaticV4(user, password(user), ""), Region: "us-east-1"})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = client.StatObject(ctx, "bucket", "a/b/c", minio.StatObjectOptions{})
		require.Equal(t, http.StatusServiceUnavailable, minio.ToErrorResponse(err).StatusCode, "%v", err)
		object, err := client.GetObject(ctx, "bucket", "a/b/c", minio.GetObjectOptions{})
		require.NoError(t, err)
		_, err = io.ReadAll(object)
		requireCode(t, "ServiceUnavailable", err)
		require.NotContains(t, err.Error(), "canary")
	}
}
