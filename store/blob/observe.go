package blob

import (
	"context"
	"io"
	"time"
)

// Observe returns a store that calls observe after each operation of s, with how long it took and its error.
// The operation is get, put, stat, list, delete, delete_prefix, create or sweep. The time of a get ends once
// the object is open.
func Observe(s Store, observe func(operation string, took time.Duration, err error)) Store {
	return &observed{s, observe}
}

// Folder returns the store in a folder that s is, also if it is observed.
func Folder(s Store) (*File, bool) {
	if o, wrapped := s.(*observed); wrapped {
		s = o.store
	}
	file, ok := s.(*File)
	return file, ok
}

// observed is a store whose operations are reported.
type observed struct {
	store   Store
	observe func(operation string, took time.Duration, err error)
}

// report reports an operation that began at a time.
func (o *observed) report(operation string, began time.Time, err error) {
	o.observe(operation, time.Since(began), err)
}

// Get implements [Store].
func (o *observed) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	began := time.Now()
	r, err := o.store.Get(ctx, key)
	o.report("get", began, err)
	return r, err
}

// Put implements [Store].
func (o *observed) Put(ctx context.Context, key string, r io.Reader) error {
	began := time.Now()
	err := o.store.Put(ctx, key, r)
	o.report("put", began, err)
	return err
}

// Stat implements [Store].
func (o *observed) Stat(ctx context.Context, key string) (Info, error) {
	began := time.Now()
	info, err := o.store.Stat(ctx, key)
	o.report("stat", began, err)
	return info, err
}

// List implements [Store].
func (o *observed) List(ctx context.Context, prefix string) ([]Info, error) {
	began := time.Now()
	list, err := o.store.List(ctx, prefix)
	o.report("list", began, err)
	return list, err
}

// Delete implements [Store].
func (o *observed) Delete(ctx context.Context, key string) error {
	began := time.Now()
	err := o.store.Delete(ctx, key)
	o.report("delete", began, err)
	return err
}

// DeletePrefix implements [Store].
func (o *observed) DeletePrefix(ctx context.Context, prefix string) error {
	began := time.Now()
	err := o.store.DeletePrefix(ctx, prefix)
	o.report("delete_prefix", began, err)
	return err
}

// Create implements [Store].
func (o *observed) Create(ctx context.Context, prefix string, fill func(dir string) error) error {
	began := time.Now()
	err := o.store.Create(ctx, prefix, fill)
	o.report("create", began, err)
	return err
}

// Sweep implements [Store].
func (o *observed) Sweep(ctx context.Context, age time.Duration) error {
	began := time.Now()
	err := o.store.Sweep(ctx, age)
	o.report("sweep", began, err)
	return err
}
