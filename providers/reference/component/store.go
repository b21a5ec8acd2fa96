package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Store reads and writes complete objects under keys such as <namespace>/<name>/data_0. Writes are atomic: a
// reader sees the complete object or nothing of it.
type Store interface {
	Read(ctx context.Context, key string) ([]byte, error)
	Write(ctx context.Context, key string, data []byte) error
}

// OpenStore opens the storage that system.storage names (API_SPECS, part 3, section 4.1): file:///dir, or
// s3://host:port?username=..&password=..&bucket=.. with "storage" as the default bucket, and TLS if it has
// secure=true. It connects on first use.
func OpenStore(address string) (Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		// url.Parse's error repeats the address, which carries the password.
		return nil, errors.New(
			"variable system.storage: must be file:///dir or s3://host:port?username=u&password=p",
		)
	}
	switch u.Scheme {
	case "file":
		if u.Path == "" {
			return nil, fmt.Errorf(
				"variable system.storage: file:// needs a directory, such as file:///storage",
			)
		}
		return fileStore(filepath.Join(u.Host, u.Path)), nil
	case "s3":
		q := u.Query()
		bucket := q.Get("bucket")
		if bucket == "" {
			bucket = "storage"
		}
		client, err := minio.New(u.Host, &minio.Options{
			Creds:        credentials.NewStaticV4(q.Get("username"), q.Get("password"), ""),
			BucketLookup: minio.BucketLookupPath,
			Secure:       q.Get("secure") == "true",
		})
		if err != nil {
			return nil, fmt.Errorf("variable system.storage: s3 address %s: %w", u.Host, err)
		}
		return s3Store{client, bucket}, nil
	}
	return nil, fmt.Errorf(
		"variable system.storage: scheme %q is not supported; supported: file, s3", u.Scheme,
	)
}

type fileStore string

func (s fileStore) Read(_ context.Context, key string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(s), filepath.FromSlash(key)))
}

// Write writes a temporary file and renames it. Both are in the same directory, which may be a mount of its
// own.
func (s fileStore) Write(_ context.Context, key string, data []byte) error {
	target := filepath.Join(string(s), filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // of no effect once renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // the platform's user must be able to read the outputs of the container
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}

type s3Store struct {
	client *minio.Client
	bucket string
}

// storeWait bounds how long a store that can't be reached is asked again. A runner that restarts is away for
// seconds, and with it the address at which its containers reach the store.
const storeWait = 30 * time.Second

// locate asks for the bucket's location, as the client does before its first request to a bucket. The client
// repeats all requests that get no answer, except this one.
func (s s3Store) locate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		_, err := s.client.GetBucketLocation(ctx, s.bucket)
		var answer minio.ErrorResponse
		if err == nil || errors.As(err, &answer) { // its next request gets the same answer
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

func (s s3Store) Read(ctx context.Context, key string) ([]byte, error) {
	if err := s.locate(ctx); err != nil {
		return nil, err
	}
	object, err := s.client.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = object.Close() }()
	return io.ReadAll(object)
}

// Write creates a missing bucket, as FATE's containers do. At a party without data of its own, nobody else
// has created it.
func (s s3Store) Write(ctx context.Context, key string, data []byte) error {
	if err := s.locate(ctx); err != nil {
		return err
	}
	put := func() error {
		_, err := s.client.PutObject(
			ctx, s.bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{},
		)
		return err
	}
	err := put()
	if minio.ToErrorResponse(err).Code != minio.NoSuchBucket {
		return err
	}
	err = s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{})
	if code := minio.ToErrorResponse(err).Code; err != nil && code != minio.BucketAlreadyOwnedByYou &&
		code != minio.BucketAlreadyExists {
		return fmt.Errorf("failed to create bucket %s: %w", s.bucket, err)
	}
	return put()
}

// key returns the key of a part of an address (API_SPECS, part 3, section 4.2). It refuses names that lead
// out of the storage.
func (a Address) key(part string) (string, error) {
	k := path.Join(a.Namespace, a.Name, part)
	if a.Namespace == "" || a.Name == "" || !filepath.IsLocal(k) ||
		k != strings.Join([]string{a.Namespace, a.Name, part}, "/") {
		return "", fmt.Errorf(
			"namespace %q and name %q are not a valid path in the storage", a.Namespace, a.Name,
		)
	}
	return k, nil
}
