package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
)

// parallelPuts bounds the requests with which Create uploads.
const parallelPuts = 4

// Create implements [Store]. The folder that fill writes to is in the machine's folder for temporary files
// (TMPDIR), which must have enough space for all of it. The objects named "metadata" are put last.
func (s *S3) Create(ctx context.Context, prefix string, fill func(dir string) error) error {
	if err := CheckKey(prefix); err != nil {
		return err
	}
	existing, err := s.list(ctx, prefix+"/")
	if err != nil {
		return err
	}
	if len(existing) > 0 {
		return bfia.Errorf(bfia.CodeConflict, "storage: %s already exists", prefix)
	}

	dir, err := os.MkdirTemp("", "hutong-stage-")
	if err != nil {
		return fmt.Errorf("storage: failed to create %s: %w", prefix, err)
	}
	defer os.RemoveAll(dir)
	if err := fill(dir); err != nil {
		return err
	}

	if err := s.putFolder(ctx, dir, prefix); err != nil {
		// With a context of its own: the caller's may be the reason of the failure.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(err, s.deletePrefix(ctx, prefix+"/"))
	}
	return nil
}

// putFolder puts the files in dir under a prefix.
func (s *S3) putFolder(ctx context.Context, dir, prefix string) error {
	var data, metadata []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if path.Base(key) == "metadata" {
			metadata = append(metadata, key)
		} else {
			data = append(data, key)
		}
		return CheckKey(prefix + "/" + key)
	})
	if err != nil {
		return fmt.Errorf("storage: failed to create %s: %w", prefix, err)
	}

	for _, keys := range [][]string{data, metadata} {
		puts, ctx := errgroup.WithContext(ctx)
		puts.SetLimit(parallelPuts)
		for _, key := range keys {
			puts.Go(func() error {
				_, err := s.client.FPutObject(ctx, s.bucket, prefix+"/"+key,
					filepath.Join(dir, filepath.FromSlash(key)),
					minio.PutObjectOptions{PartSize: partSize, NumThreads: 1})
				return s.wrap(err, "put", prefix+"/"+key)
			})
		}
		if err := puts.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// Sweep implements [Store]: it aborts multipart uploads that dead processes did not complete.
func (s *S3) Sweep(ctx context.Context, age time.Duration) error {
	var failed []error
	for up := range s.client.ListIncompleteUploads(ctx, s.bucket, "", true) {
		if up.Err != nil {
			failed = append(failed, s.wrap(up.Err, "list the incomplete uploads of", s.bucket))
			break
		}
		if time.Since(up.Initiated) >= age {
			err := s.client.RemoveIncompleteUpload(ctx, s.bucket, up.Key)
			failed = append(failed, s.wrap(err, "abort the incomplete upload of", up.Key))
		}
	}
	return errors.Join(failed...)
}
