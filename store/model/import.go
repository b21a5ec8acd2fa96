package model

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/internal/zipfile"
	"hutong/store"
	"hutong/store/blob"
)

const (
	maxManifest = 16 << 20
	maxProof    = 1 << 20 // of the signature and of the certificates
	maxFiles    = 10000
	// maxValues bounds the values of a manifest: three for each file, and the job's document and parameters.
	maxValues = 250_000
)

// Importing is how an archive is imported.
type Importing struct {
	// MaxBytes bounds the model when it is unpacked.
	MaxBytes int64
	// Project is the project to which the model belongs. Empty: that of its job, or default.
	Project string
	// Trust decides who may have signed it.
	Trust Trust
	// Named is called with the model's name before anything is stored.
	Named func(bfia.ModelRef)
}

// Imported is a model that was imported, and who signed it.
type Imported struct {
	Model    bfia.ModelRef
	SignedBy Signature
}

// Import stores a model that was exported. It refuses an archive that is not whole, has other entries than
// its manifest, or that nobody trusted has signed. The model is kept. A model that this party already has
// with the same content stays as it is.
func (m *Models) Import(ctx context.Context, archive io.ReaderAt, size int64, how Importing,
) (Imported, error) {
	a, err := m.openArchive(archive, size, how)
	if err != nil {
		return Imported{}, err
	}
	ref := bfia.ModelRef{JobID: a.JobID, Task: a.Task, Output: a.Output}
	how.Named(ref)
	return Imported{Model: ref, SignedBy: a.signedBy}, m.storeArchive(ctx, a, ref, how.Project)
}

// storeArchive stores the parts of an archive that the party does not have yet.
func (m *Models) storeArchive(ctx context.Context, a *archive, ref bfia.ModelRef, project string) error {
	var parts []store.Model
	for _, p := range a.Parts {
		part := a.row(m.node, p)
		existing, err := m.rows.BeginModelImport(ctx, part, project)
		if err != nil {
			return errors.Join(err, m.discard(ctx, parts))
		}
		if existing != nil {
			if existing.Removing || existing.SHA256 != p.SHA256 {
				refused := bfia.Errorf(bfia.CodeConflict,
					"model %s (%s): this party has another model of that name; delete it first", ref,
					part.Part().Self())
				return errors.Join(refused, m.discard(ctx, parts))
			}
			continue
		}
		parts = append(parts, part)
		if err := a.store(ctx, m.blobs, p, part.Address()); err != nil {
			return errors.Join(err, m.discard(ctx, parts))
		}
	}
	if len(parts) == 0 {
		return m.rows.KeepModel(ctx, ref)
	}
	return m.rows.CompleteModelImport(ctx, parts)
}

// discard removes what an import has stored before it failed.
func (m *Models) discard(ctx context.Context, parts []store.Model) error {
	var failed []error
	for _, part := range parts {
		failed = append(failed, m.remove(context.WithoutCancel(ctx), part))
	}
	return errors.Join(failed...)
}

// archive is an archive of a model, whose manifest and entries agree.
type archive struct {
	Manifest
	entries  map[string]*zip.File
	text     []byte // the manifest as it was signed
	signedBy Signature
}

func badArchive(format string, args ...any) error {
	return bfia.Errorf(bfia.CodeBadRequest, "archive: "+format, args...)
}

func (m *Models) openArchive(r io.ReaderAt, size int64, how Importing) (*archive, error) {
	z, err := zipfile.Open(r, size, maxFiles)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeBadRequest, err, "archive: %v", err)
	}
	a := &archive{entries: map[string]*zip.File{}}
	for _, f := range z.File {
		if a.entries[f.Name] != nil {
			return nil, badArchive("has the entry %q twice", f.Name)
		}
		a.entries[f.Name] = f
	}
	if err := a.readManifest(); err != nil {
		return nil, err
	}
	if err := a.checkSigned(m.node, how.Trust); err != nil {
		return nil, err
	}
	if err := a.checkManifest(m.node); err != nil {
		return nil, err
	}
	return a, a.checkFiles(how.MaxBytes)
}

func (a *archive) readManifest() (err error) {
	if a.text, err = a.read(manifestName, maxManifest); err != nil {
		return err
	}
	if err := zipfile.CheckJSON(a.text, maxValues); err != nil {
		return badArchive("%s %v", manifestName, err)
	}
	if err := json.Unmarshal(a.text, &a.Manifest); err != nil {
		return badArchive("%s: %v", manifestName, err)
	}
	if a.Format != Format {
		return badArchive("format: is %q, must be %q", a.Format, Format)
	}
	return nil
}

// read returns the content of an entry that is not a file of the model.
func (a *archive) read(name string, most uint64) ([]byte, error) {
	f := a.entries[name]
	if f == nil {
		return nil, badArchive("has no %s", name)
	}
	if f.UncompressedSize64 > most {
		return nil, badArchive("%s is longer than %d bytes", name, most)
	}
	r, err := f.Open()
	if err != nil {
		return nil, badArchive("%s: %v", name, err)
	}
	content, err := io.ReadAll(io.LimitReader(r, int64(most)))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, badArchive("%s: %v", name, err)
	}
	return content, nil
}

// checkManifest checks that the manifest is of a model of this party, and agrees with the job's document.
func (a *archive) checkManifest(node string) error {
	if a.NodeID != node {
		return badArchive("node_id: holds the part of %s, but this is %s", a.NodeID, node)
	}
	for _, f := range [][2]string{{"job_id", a.JobID}, {"task_name", a.Task}, {"output", a.Output},
		{"type", a.Type}} {
		if err := bfia.CheckID("archive: "+f[0], f[1]); err != nil {
			return err
		}
	}
	if len(a.Parts) == 0 {
		return badArchive("parts: is empty")
	}
	doc, err := bfia.ParseDocument(a.Document)
	if err != nil {
		return bfia.PrefixPlace("archive: document", err)
	}
	i := slices.IndexFunc(doc.DAG.Components, func(c bfia.Component) bool { return c.Name == a.Task })
	if i < 0 || doc.JobID != a.JobID {
		return badArchive("document: is not that of job %s with task %s", a.JobID, a.Task)
	}
	c := doc.DAG.Components[i]
	if c.ComponentName != a.Component || c.Provider != a.Provider || c.Version != a.Version ||
		!slices.Contains(c.Output, bfia.Port{Type: a.Type, Key: a.Output}) || !bfia.IsModel(a.Type) {
		return badArchive("document: task %s is not %s of %s:%s with the model %s", a.Task, a.Component,
			a.Provider, a.Version, a.Output)
	}
	seen := map[string]bool{}
	for _, p := range a.Parts {
		part := p.part(node)
		if !slices.Contains(doc.Config.Parts(), part) || seen[part.Self()] {
			return badArchive("parts: %s has no part %s in the job, or it is given twice", node, part.Self())
		}
		seen[part.Self()] = true
	}
	return nil
}

// checkFiles checks that the entries are those of the manifest, with their names, sizes and hashes.
func (a *archive) checkFiles(maxBytes int64) error {
	var total int64
	listed := 1 // the manifest
	if a.signedBy.Key != nil {
		listed += 2 // with its signature and certificates
	}
	for _, p := range a.Parts {
		if digest, bytes := Digest(p.Files); digest != p.SHA256 || bytes != p.Bytes {
			return badArchive("parts: hash or size of %s is not that of its files", p.part("").Self())
		}
		names := map[string]bool{}
		for _, f := range p.Files {
			entry := a.entry(p, f)
			switch {
			case blob.CheckKey(f.Name) != nil || names[f.Name]:
				return badArchive("%q is not a file name, or given twice", f.Name)
			case entry == nil:
				return badArchive("has no entry %q of its manifest", p.part("").Self()+"/"+f.Name)
			case f.Bytes < 0 || entry.UncompressedSize64 != uint64(f.Bytes):
				return badArchive("%q has not the size of its manifest", entry.Name)
			}
			names[f.Name] = true
			listed++
			if total += f.Bytes; total > maxBytes || f.Bytes > maxBytes {
				return bfia.Errorf(bfia.CodeTooLarge, "archive: the model is larger than %d bytes, "+
					"the limit upload.max_bytes of this party", maxBytes)
			}
		}
		if err := checkFolders(names); err != nil {
			return err
		}
	}
	if listed != len(a.entries) {
		return badArchive("has %d entries, but its manifest lists %d", len(a.entries), listed)
	}
	for _, p := range a.Parts {
		for _, f := range p.Files {
			if err := a.checkFile(p, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFolders refuses names of which one is a folder of another: storage in a folder can't hold both.
func checkFolders(names map[string]bool) error {
	for name := range names {
		for folder := path.Dir(name); folder != "." && folder != "/"; folder = path.Dir(folder) {
			if names[folder] {
				return badArchive("%q can't be a file and the folder of %q", folder, name)
			}
		}
	}
	return nil
}

func (a *archive) entry(p ManifestPart, f File) *zip.File {
	return a.entries[p.part("").Self()+"/"+f.Name]
}

// checkFile compares an entry with its hash. It reads no more than its size.
func (a *archive) checkFile(p ManifestPart, f File) error {
	r, err := a.entry(p, f).Open()
	if err != nil {
		return badArchive("%s: %v", f.Name, err)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(r, f.Bytes+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return badArchive("%s: %v", f.Name, err)
	}
	if n != f.Bytes || hex.EncodeToString(hash.Sum(nil)) != f.SHA256 {
		return badArchive("%q is not what its manifest says: the hashes differ", f.Name)
	}
	return nil
}

// row returns the row of a part, with an address of its own.
func (a *archive) row(node string, p ManifestPart) store.Model {
	part := p.part(node)
	at := bfia.OutputAddress("model-"+uuid.NewString(), part, bfia.Port{Type: a.Type, Key: a.Output})
	return store.Model{JobID: a.JobID, TaskName: a.Task, Role: p.Role, RoleIndex: p.Index, Key: a.Output,
		Type: a.Type, Port: a.Port, Component: a.Component, Provider: a.Provider, Version: a.Version,
		Images: p.Images, Datasets: p.Datasets, Document: a.Document, Namespace: at.Namespace, Name: at.Name,
		Bytes: p.Bytes, SHA256: p.SHA256}
}

func (a *archive) store(ctx context.Context, blobs blob.Store, p ManifestPart, at bfia.Address) error {
	for _, f := range p.Files {
		r, err := a.entry(p, f).Open()
		if err != nil {
			return badArchive("%s: %v", f.Name, err)
		}
		err = blobs.Put(ctx, at.Namespace+"/"+at.Name+"/"+f.Name, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("failed to store %s: %w", f.Name, err)
		}
	}
	return nil
}
