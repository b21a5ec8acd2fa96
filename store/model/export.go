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
	"time"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/store"
)

// Format is the version of the archive of an exported model.
const Format = "hutong-model-1"

// The entries of an archive besides the files of its parts, each of which is in a folder of the part's name,
// such as guest.0. The last two sign the manifest.
const (
	manifestName     = "manifest.json"
	signatureName    = "manifest.sig"
	certificatesName = "certificates.pem"
)

// Manifest describes an exported model: what made it, and its content.
type Manifest struct {
	Format    string         `json:"format"`
	NodeID    string         `json:"node_id"` // the party whose part it is
	JobID     string         `json:"job_id"`
	Task      string         `json:"task_name"`
	Output    string         `json:"output"` // its key in the DAG
	Type      string         `json:"type"`
	Port      string         `json:"port"` // its name in the component's description
	Component string         `json:"component"`
	Provider  string         `json:"provider"`
	Version   string         `json:"version"`
	CreatedAt time.Time      `json:"created_at"` // of the model
	Parts     []ManifestPart `json:"parts"`
	// CertificatesSHA256 is the hash of the certificates of the key that signed the manifest.
	CertificatesSHA256 string `json:"certificates_sha256,omitempty"`
	// Document is that of the job: with it come the parties and the parameters.
	Document json.RawMessage `json:"document"`
}

// ManifestPart describes the part of a model that one role of the party has.
type ManifestPart struct {
	Role     string   `json:"role"`
	Index    int      `json:"index"`
	Images   []string `json:"images"`
	Datasets []string `json:"datasets"` // namespace#name@generation
	// Parameters are those of the task at this role.
	Parameters map[string]json.RawMessage `json:"parameters"`
	Bytes      int64                      `json:"bytes"`
	SHA256     string                     `json:"sha256"` // [Digest] of the files
	Files      []File                     `json:"files"`
}

func (p ManifestPart) part(node string) bfia.Part {
	return bfia.Part{Role: p.Role, Index: p.Index, NodeID: node}
}

// Export is an archive of a model that can be written.
type Export struct {
	Manifest Manifest
	models   *Models
	parts    []store.Model
	// The manifest as it is signed, its signature, and the certificates of the key.
	text, signature, certificates []byte
}

// Export reads a model of this party, checks that its content is what was trained, and signs its manifest.
func (m *Models) Export(ctx context.Context, ref bfia.ModelRef, signer certs.Signer) (*Export, error) {
	parts, err := m.rows.ModelParts(ctx, ref)
	if err != nil {
		return nil, err
	}
	first := parts[0]
	if err := m.rows.CheckTrainingEnded(ctx, first); err != nil {
		return nil, err
	}
	doc, err := bfia.ParseDocument(first.Document)
	if err != nil {
		return nil, fmt.Errorf("failed to read the document of model %s: %w", ref, err)
	}
	e := &Export{models: m, parts: parts, Manifest: Manifest{Format: Format, NodeID: m.node,
		JobID: first.JobID, Task: first.TaskName, Output: first.Key, Type: first.Type, Port: first.Port,
		Component: first.Component, Provider: first.Provider, Version: first.Version,
		CreatedAt: first.CreatedAt, Document: first.Document}}
	for _, part := range parts {
		files, err := Files(ctx, m.blobs, part.Address())
		if err != nil {
			return nil, err
		}
		digest, bytes := Digest(files)
		if digest != part.SHA256 {
			return nil, bfia.Errorf(bfia.CodeConflict,
				"model %s (%s): its content in the storage is not what was trained: the hashes differ",
				part.Ref(), part.Part().Self())
		}
		p := ManifestPart{Role: part.Role, Index: part.RoleIndex, Images: part.Images,
			Datasets: part.Datasets, Bytes: bytes, SHA256: digest, Files: files}
		if p.Parameters, err = doc.Config.TaskParameters(part.TaskName, p.part(m.node)); err != nil {
			return nil, err
		}
		e.Manifest.Parts = append(e.Manifest.Parts, p)
	}
	return e, e.sign(signer)
}

func (e *Export) sign(signer certs.Signer) (err error) {
	e.certificates = signer.Certificates()
	sum := sha256.Sum256(e.certificates)
	e.Manifest.CertificatesSHA256 = hex.EncodeToString(sum[:])
	if e.text, err = json.MarshalIndent(e.Manifest, "", "  "); err != nil {
		return fmt.Errorf("failed to encode the manifest: %w", err)
	}
	// The purpose is the format, so that no other signature of the key can be taken for this one.
	if e.signature, err = signer.Sign(Format, e.text); err != nil {
		return fmt.Errorf("failed to sign the model: %w", err)
	}
	return nil
}

// Write writes the archive.
func (e *Export) Write(ctx context.Context, w io.Writer) error {
	archive := zip.NewWriter(w)
	for _, entry := range []struct {
		name    string
		content []byte
	}{{manifestName, e.text}, {signatureName, e.signature}, {certificatesName, e.certificates}} {
		to, err := archive.Create(entry.name)
		if err != nil {
			return err
		}
		if _, err := to.Write(entry.content); err != nil {
			return err
		}
	}
	for i, part := range e.parts {
		for _, f := range e.Manifest.Parts[i].Files {
			if err := e.add(ctx, archive, part, f); err != nil {
				return fmt.Errorf("failed to write %s of model %s: %w", f.Name, part.Ref(), err)
			}
		}
	}
	return archive.Close()
}

func (e *Export) add(ctx context.Context, archive *zip.Writer, part store.Model, f File) error {
	to, err := archive.Create(part.Part().Self() + "/" + f.Name)
	if err != nil {
		return err
	}
	object, err := e.models.blobs.Get(ctx, part.Namespace+"/"+part.Name+"/"+f.Name)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, object)
	return errors.Join(err, object.Close())
}
