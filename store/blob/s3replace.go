package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
)

const (
	stagePrefix  = tmp + "/stage/"  // .tmp/stage/<uuid>/<key under the prefix>
	commitPrefix = tmp + "/commit/" // .tmp/commit/<hash of the prefix>: a commit
	atOnce       = 4
)

// commit is the record that makes a replacement happen: the staged objects that go to the prefix. There is one at a time
// for a prefix.
type commit struct {
	ID     string   `json:"id"`
	Prefix string   `json:"prefix"`
	Keys   []string `json:"keys"`
}

// commitKey is where the commit of a prefix is. Hashed: as a path it would be a folder and an object to some servers.
func commitKey(prefix string) string {
	sum := sha256.Sum256([]byte(prefix))
	return commitPrefix + hex.EncodeToString(sum[:])
}

// lock keeps apart those who replace one prefix in this process.
func (s *S3) lock(prefix string) *sync.Mutex {
	sum := sha256.Sum256([]byte(prefix))
	return &s.publishing[int(sum[0])%len(s.publishing)]
}

// Replace implements [Store]. The folder that fill is given is in the machine's folder for temporary files (TMPDIR),
// which needs room for all of it.
func (s *S3) Replace(ctx context.Context, prefix string, fill func(dir string) error) error {
	if err := CheckKey(prefix); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hutong-stage-")
	if err != nil {
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	defer os.RemoveAll(dir)
	if err := fill(dir); err != nil {
		return err
	}
	c := commit{ID: uuid.NewString(), Prefix: prefix}
	if err := s.upload(ctx, dir, prefix, &c); err != nil {
		// With a context of its own: the caller's may be why it failed. What this leaves, Sweep removes.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(err, s.deletePrefix(ctx, stagePrefix+c.ID+"/"))
	}
	record, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	lock := s.lock(prefix)
	lock.Lock()
	defer lock.Unlock()
	for {
		// Only one commit for a prefix at a time: one that is there is completed first, whoever's it is.
		var opts minio.PutObjectOptions
		opts.SetMatchETagExcept("*")
		err := s.put(ctx, commitKey(prefix), bytes.NewReader(record), opts)
		if err == nil {
			return s.complete(ctx, commitKey(prefix))
		}
		var resp minio.ErrorResponse
		if !errors.As(err, &resp) || resp.Code != minio.PreconditionFailed {
			return err
		}
		if err := s.complete(ctx, commitKey(prefix)); err != nil {
			return err
		}
	}
}

// upload stages the files in dir.
func (s *S3) upload(ctx context.Context, dir, prefix string, c *commit) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		c.Keys = append(c.Keys, filepath.ToSlash(rel))
		return CheckKey(prefix + "/" + filepath.ToSlash(rel))
	})
	if err != nil {
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for _, key := range c.Keys {
		all.Go(func() error {
			_, err := s.client.FPutObject(ctx, s.bucket, stagePrefix+c.ID+"/"+key, filepath.Join(dir, filepath.FromSlash(key)),
				minio.PutObjectOptions{PartSize: partSize, NumThreads: 1})
			return s.fail(err, "put", prefix+"/"+key)
		})
	}
	return all.Wait()
}

// complete does what a commit says, if it is there. Several processes may do it at once.
func (s *S3) complete(ctx context.Context, key string) error {
	c, err := s.commit(ctx, key)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.publish(ctx, c); err != nil {
		// Another process may have completed it meanwhile and removed the staged objects under our hands.
		now, readErr := s.commit(ctx, key)
		if bfia.CodeOf(readErr) == bfia.CodeNotFound || readErr == nil && now.ID != c.ID {
			return nil
		}
		return fmt.Errorf("storage: replace %s: %w", c.Prefix, err)
	}
	if err := s.delete(ctx, key); err != nil {
		return err
	}
	return s.deletePrefix(ctx, stagePrefix+c.ID+"/")
}

func (s *S3) commit(ctx context.Context, key string) (commit, error) {
	obj, err := s.client.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return commit{}, s.fail(err, "read", key)
	}
	defer obj.Close()
	record, err := io.ReadAll(obj)
	if err != nil {
		return commit{}, s.fail(err, "read", key)
	}
	var c commit
	if err := json.Unmarshal(record, &c); err != nil {
		return commit{}, fmt.Errorf("storage: read %s: %w", key, err)
	}
	return c, nil
}

func (s *S3) publish(ctx context.Context, c commit) error {
	isMetadata := func(key string) bool { return path.Base(key) == "metadata" }
	old, err := s.list(ctx, c.Prefix+"/")
	if err != nil {
		return err
	}
	for _, o := range old {
		if isMetadata(o.Key) {
			if err := s.delete(ctx, o.Key); err != nil {
				return err
			}
		}
	}
	all, copyCtx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	var last []string
	for _, key := range c.Keys {
		if isMetadata(key) {
			last = append(last, key)
			continue
		}
		all.Go(func() error { return s.place(copyCtx, c, key) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	for _, o := range old {
		if rel := strings.TrimPrefix(o.Key, c.Prefix+"/"); !slices.Contains(c.Keys, rel) {
			if err := s.delete(ctx, o.Key); err != nil {
				return err
			}
		}
	}
	for _, key := range last {
		if err := s.place(ctx, c, key); err != nil {
			return err
		}
	}
	return nil
}

// place copies a staged object to its place, inside the server.
func (s *S3) place(ctx context.Context, c commit, key string) error {
	_, err := s.client.ComposeObject(ctx,
		minio.CopyDestOptions{Bucket: s.bucket, Object: c.Prefix + "/" + key},
		minio.CopySrcOptions{Bucket: s.bucket, Object: stagePrefix + c.ID + "/" + key})
	return s.fail(err, "place", c.Prefix+"/"+key)
}

// Sweep implements [Store].
func (s *S3) Sweep(ctx context.Context, age time.Duration) error {
	commits, err := s.list(ctx, commitPrefix)
	if err != nil {
		return err
	}
	var failed []error
	committed := make(map[string]bool)
	for _, o := range commits {
		c, err := s.commit(ctx, o.Key)
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		committed[c.ID] = true
		// A young one has its process still at work on it, most likely.
		if time.Since(o.ModTime) >= min(age, time.Minute) {
			lock := s.lock(c.Prefix)
			lock.Lock()
			failed = append(failed, s.complete(ctx, o.Key))
			lock.Unlock()
		}
	}
	staged, err := s.list(ctx, stagePrefix)
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	// A stage is as old as its youngest object.
	youngest := make(map[string]time.Time)
	for _, o := range staged {
		id, _, _ := strings.Cut(strings.TrimPrefix(o.Key, stagePrefix), "/")
		if o.ModTime.After(youngest[id]) {
			youngest[id] = o.ModTime
		}
	}
	for id, t := range youngest {
		if !committed[id] && time.Since(t) >= age {
			failed = append(failed, s.deletePrefix(ctx, stagePrefix+id+"/"))
		}
	}
	for up := range s.client.ListIncompleteUploads(ctx, s.bucket, "", true) {
		if up.Err != nil {
			failed = append(failed, s.fail(up.Err, "list the unfinished uploads of", s.bucket))
			break
		}
		if time.Since(up.Initiated) >= age {
			failed = append(failed, s.fail(s.client.RemoveIncompleteUpload(ctx, s.bucket, up.Key), "remove the unfinished upload of", up.Key))
		}
	}
	return errors.Join(failed...)
}
