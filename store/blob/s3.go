package blob

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"hutong/bfia"
)

// The size of an upload's parts; one is in memory at a time. S3 allows 10,000, which is 160 GiB for an upload
// of unknown length.
const partSize = 16 << 20

// S3 is a store in a bucket of an S3 server.
type S3 struct {
	client *minio.Client
	bucket string
}

var _ Store = (*S3)(nil)

// S3Address is the address of a bucket, with the credentials of the party.
type S3Address struct {
	Host           string // host:port of the server
	Secure         bool   // TLS
	Region         string
	Bucket         string
	User, Password string
}

// ParseS3 reads an address of the form s3://host:port?username=..&password=..&bucket=... An error does not
// contain the password.
func ParseS3(u *url.URL) (S3Address, error) {
	q := u.Query()
	a := S3Address{Host: u.Host, User: q.Get("username"), Password: q.Get("password"),
		Bucket: cmp.Or(q.Get("bucket"), "storage"), Region: cmp.Or(q.Get("region"), "us-east-1")}
	if a.Host == "" || a.User == "" || a.Password == "" {
		return a, errors.New(
			"open storage: an S3 address must name a server, a user and a password: s3://host:port?username=NAME&password=SECRET&bucket=NAME",
		)
	}
	switch q.Get("secure") {
	case "", "false":
	case "true":
		a.Secure = true
	default:
		return a, errors.New("open storage: secure must be true or false")
	}
	return a, nil
}

// Client returns a client of the server, and the transport that it uses. It does not connect.
func (a S3Address) Client(by Connection) (*minio.Client, *http.Transport, error) {
	transport := by.Proxy.Transport()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: by.Roots}
	transport.ResponseHeaderTimeout = time.Minute
	transport.DisableCompression = true // of objects that are compressed themselves
	client, err := minio.New(a.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(a.User, a.Password, ""),
		Secure: a.Secure, Region: a.Region, Transport: transport,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open storage: %w", err)
	}
	return client, transport, nil
}

func openS3(ctx context.Context, u *url.URL, by Connection) (*S3, error) {
	a, err := ParseS3(u)
	if err != nil {
		return nil, err
	}
	client, _, err := a.Client(by)
	if err != nil {
		return nil, err
	}
	bucket, region := a.Bucket, a.Region
	s := &S3{client: client, bucket: bucket}
	exists, err := client.BucketExists(ctx, bucket)
	if err == nil && !exists {
		err = client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: region})
		if code := minio.ToErrorResponse(err).Code; code == minio.BucketAlreadyOwnedByYou ||
			code == minio.BucketAlreadyExists {
			err = nil // another process has just created it
		}
	}
	if err != nil {
		return nil, s.wrap(err, "open bucket "+bucket+" at "+u.Host, "")
	}
	return s, nil
}

// wrap adds to an error which operation failed, and its code.
func (s *S3) wrap(err error, doing, key string) error {
	if err == nil {
		return nil
	}
	var known *bfia.Error
	if errors.As(err, &known) {
		return err
	}
	doing = strings.TrimSpace("storage: failed to " + doing + " " + key)
	var resp minio.ErrorResponse
	if !errors.As(err, &resp) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: %w", doing, err)
		}
		var uerr *url.Error
		if errors.As(err, &uerr) {
			return bfia.Unavailable(bfia.WaitsForStorage, fmt.Errorf("%s: %w", doing, err),
				"the storage does not answer")
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch {
	case resp.Code == minio.NoSuchKey || resp.StatusCode == http.StatusNotFound && key != "":
		return notFound(key)
	case isFullS3(resp):
		return storageFull(fmt.Errorf("%s: %w", doing, err))
	case resp.StatusCode >= 500:
		return bfia.Unavailable(bfia.WaitsForStorage, fmt.Errorf("%s: %w", doing, err),
			"the storage does not answer")
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Get implements [Store].
func (s *S3) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	obj, err := s.client.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.wrap(err, "get", key)
	}
	// Send the request now and not with the first read, so that the caller sees here if the object is
	// missing.
	if _, err := obj.Stat(); err != nil {
		obj.Close()
		return nil, s.wrap(err, "get", key)
	}
	return obj, nil
}

// Stat implements [Store].
func (s *S3) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	o, err := s.client.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.wrap(err, "stat", key)
	}
	return Info{Key: key, Size: o.Size, ModTime: o.LastModified.UTC()}, nil
}

// Put implements [Store].
func (s *S3) Put(ctx context.Context, key string, r io.Reader) error {
	if err := CheckKey(key); err != nil {
		return err
	}

	opts := minio.PutObjectOptions{PartSize: partSize}
	// An object not larger than a part is put in one request. That needs its length, so it is buffered.
	var first bytes.Buffer
	n, err := io.CopyN(&first, contextReader{ctx, r}, partSize)
	switch {
	case errors.Is(err, io.EOF):
		_, err = s.client.PutObject(ctx, s.bucket, key, &first, n, opts)
	case err == nil:
		_, err = s.client.PutObject(ctx, s.bucket, key, io.MultiReader(&first, contextReader{ctx, r}), -1,
			opts)
	}
	return s.wrap(err, "put", key)
}

// List implements [Store].
func (s *S3) List(ctx context.Context, prefix string) ([]Info, error) {
	if prefix != "" {
		if err := CheckKey(prefix); err != nil {
			return nil, err
		}
		prefix += "/"
	}
	all, err := s.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	infos := all[:0]
	for _, o := range all {
		if CheckKey(o.Key) == nil {
			infos = append(infos, o)
		}
	}
	return infos, nil
}

// list returns the objects whose keys begin with prefix, also those with invalid keys.
func (s *S3) list(ctx context.Context, prefix string) ([]Info, error) {
	var infos []Info
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix,
		Recursive: true}) {
		if o.Err != nil {
			return nil, s.wrap(o.Err, "list", prefix)
		}
		infos = append(infos, Info{Key: o.Key, Size: o.Size, ModTime: o.LastModified.UTC()})
	}
	return infos, ctx.Err()
}

// Delete implements [Store].
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return s.delete(ctx, key)
}

func (s *S3) delete(ctx context.Context, key string) error {
	err := s.wrap(s.client.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}), "delete", key)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil
	}
	return err
}

// DeletePrefix implements [Store].
func (s *S3) DeletePrefix(ctx context.Context, prefix string) error {
	if err := CheckKey(prefix); err != nil {
		return err
	}
	return s.deletePrefix(ctx, prefix+"/")
}

func (s *S3) deletePrefix(ctx context.Context, prefix string) error {
	all, err := s.list(ctx, prefix)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := s.delete(ctx, o.Key); err != nil {
			return err
		}
	}
	return nil
}
