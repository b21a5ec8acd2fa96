// Package model keeps the models that a party's tasks trained: their content, its hash, and their export and
// import. Their rows are those of [store.Model].
package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Models keeps the models of a party.
type Models struct {
	node  string
	blobs blob.Store
	rows  *store.Store
}

// New returns the models of a party.
func New(node string, blobs blob.Store, rows *store.Store) *Models {
	return &Models{node: node, blobs: blobs, rows: rows}
}

// File is an object of a model.
type File struct {
	Name   string `json:"name"` // below the model's address
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal
}

// Files returns the objects at an address, by name, with their hashes.
func Files(ctx context.Context, blobs blob.Store, at bfia.Address) ([]File, error) {
	prefix := at.Namespace + "/" + at.Name
	objects, err := blobs.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("failed to list the objects of %s: %w", at, err)
	}
	files := []File{}
	for _, o := range objects {
		f, err := hashObject(ctx, blobs, o.Key)
		if err != nil {
			return nil, fmt.Errorf("failed to read %s: %w", o.Key, err)
		}
		f.Name = strings.TrimPrefix(o.Key, prefix+"/")
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func hashObject(ctx context.Context, blobs blob.Store, key string) (File, error) {
	object, err := blobs.Get(ctx, key)
	if err != nil {
		return File{}, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, object)
	return File{Bytes: n, SHA256: hex.EncodeToString(hash.Sum(nil))}, errors.Join(err, object.Close())
}

// Digest returns the hash of a model's content, and its size: of the names, sizes and hashes of its files.
func Digest(files []File) (digest string, bytes int64) {
	hash := sha256.New()
	for _, f := range files {
		// A hash doesn't fail.
		_, _ = fmt.Fprintf(hash, "%d:%s %d %s\n", len(f.Name), f.Name, f.Bytes, f.SHA256)
		bytes += f.Bytes
	}
	return hex.EncodeToString(hash.Sum(nil)), bytes
}

// CheckStored returns CodeNotFound if the storage has lost the content of a part of a model.
func (m *Models) CheckStored(ctx context.Context, part store.Model) error {
	objects, err := m.blobs.List(ctx, part.Namespace+"/"+part.Name)
	if err != nil {
		return bfia.Wrap(bfia.CodeUnavailable, err, "the storage of %s does not answer; try again later",
			m.node)
	}
	var bytes int64
	for _, o := range objects {
		bytes += o.Size
	}
	if bytes != part.Bytes {
		return bfia.Errorf(bfia.CodeNotFound, "%s has lost the content of model %s (%s) from its storage",
			m.node, part.Ref(), part.Part().Self())
	}
	return nil
}

// Delete deletes a model of this party. It returns CodeConflict while an unfinished job uses it.
func (m *Models) Delete(ctx context.Context, ref bfia.ModelRef) error {
	parts, err := m.rows.ClaimModelRemoval(ctx, ref)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := m.remove(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes the models that nobody needs, of one job or of all: those that were not kept and whose job is
// gone, and what is left of removals and imports that began before a time.
func (m *Models) Sweep(ctx context.Context, jobID string, before time.Time) error {
	unused, err := m.rows.ClaimUnusedModels(ctx, jobID, before)
	failed := []error{err}
	for _, part := range unused {
		failed = append(failed, m.remove(ctx, part))
	}
	return errors.Join(failed...)
}

// remove removes the objects of a claimed part and then its row, so that a repetition finds the rest.
func (m *Models) remove(ctx context.Context, part store.Model) error {
	if err := m.blobs.DeletePrefix(ctx, part.Namespace+"/"+part.Name); err != nil {
		return fmt.Errorf("failed to remove model %s: %w", part.Ref(), err)
	}
	return m.rows.DeleteModelRow(ctx, part)
}
