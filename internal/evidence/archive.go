package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/zipfile"
)

// The files of an archive.
const (
	fileManifest     = "manifest.json"
	fileSignature    = "manifest.sig"
	fileCertificates = "certificates.pem"
	fileFacts        = "facts.json"
	fileDocument     = "document.json"
	fileTrail        = "audit.json"
)

// format is the version of the form of archives.
const format = "hutong-evidence-1"

// maxContent bounds the files of an archive that is read, so that a small archive can't fill the memory.
const maxContent = 256 << 20

// maxValues bounds the values in each of the JSON files that are decoded: 60,000 entries of the trail.
const maxValues = 1_000_000

// manifest lists the files that the signature covers.
type manifest struct {
	Format string            `json:"format"`
	NodeID string            `json:"node_id"`
	JobID  string            `json:"job_id"`
	Files  map[string]string `json:"files"` // SHA-256 in hex, by name
}

// Archive is an archive that was read and whose signature is valid.
type Archive struct {
	Facts    Facts
	Document []byte
	Trail    []audit.Entry
	// Chain are the certificates in the archive. Whether they are the party's is for the reader to decide.
	Chain []*x509.Certificate
}

// Digest returns the SHA-256 of data in hex.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ContentDigest returns the digest of a JSON document that does not depend on the space between its tokens.
func ContentDigest(document []byte) (string, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, document); err != nil {
		return "", fmt.Errorf("failed to read the job's document: %w", err)
	}
	return Digest(compact.Bytes()), nil
}

// Write writes an archive. The same facts, key and certificates give the same bytes.
func Write(w io.Writer, facts Facts, document []byte, trail []audit.Entry, signer certs.Signer) error {
	files := map[string][]byte{fileDocument: document, fileCertificates: signer.Certificates()}
	if trail == nil {
		trail = []audit.Entry{}
	}
	for name, content := range map[string]any{fileFacts: facts, fileTrail: trail} {
		text, err := json.MarshalIndent(content, "", " ")
		if err != nil {
			return fmt.Errorf("failed to encode the evidence: %w", err)
		}
		files[name] = append(text, '\n')
	}
	m := manifest{Format: format, NodeID: facts.NodeID, JobID: facts.JobID, Files: map[string]string{}}
	for name, content := range files {
		m.Files[name] = Digest(content)
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return fmt.Errorf("failed to encode the evidence: %w", err)
	}
	files[fileManifest] = text
	// The purpose is the format, so that no other signature of the key can be taken for this one.
	if files[fileSignature], err = signer.Sign(format, text); err != nil {
		return fmt.Errorf("failed to sign the evidence: %w", err)
	}

	archive := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		// A fixed time: the archive depends on its content only.
		header := &zip.FileHeader{Name: name, Method: zip.Deflate,
			Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		file, err := archive.CreateHeader(header)
		if err == nil {
			_, err = file.Write(files[name])
		}
		if err != nil {
			return fmt.Errorf("failed to write the evidence: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("failed to write the evidence: %w", err)
	}
	return nil
}

// Read reads an archive, and checks its signature, the digests of its files, and that it contradicts itself
// nowhere. The error says what is wrong.
func Read(r io.ReaderAt, size int64) (*Archive, error) {
	files, err := readFiles(r, size)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{fileManifest, fileFacts, fileTrail} {
		if err := zipfile.CheckJSON(files[name], maxValues); err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
	}
	chain, err := certs.ParseCertificates(files[fileCertificates])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileCertificates, err)
	}
	if err := certs.CheckSignature(chain[0], format, files[fileManifest], files[fileSignature]); err != nil {
		return nil, fmt.Errorf(
			"the signature is not valid: the manifest was altered, or another key signed it: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(files[fileManifest], &m); err != nil {
		return nil, fmt.Errorf("%s: %w", fileManifest, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("%s: the format is %q; this program reads %s", fileManifest, m.Format, format)
	}
	for _, name := range []string{fileCertificates, fileDocument, fileFacts, fileTrail} {
		if m.Files[name] != Digest(files[name]) {
			return nil, fmt.Errorf(
				"%s: its SHA-256 is not that of the signed manifest: it was altered",
				name,
			)
		}
	}
	if want := len(m.Files) + 2; len(files) != want { // the manifest and its signature
		return nil, fmt.Errorf("the archive has %d files, and the signed manifest and its signature make %d",
			len(files), want)
	}

	a := &Archive{Document: files[fileDocument], Chain: chain}
	if err := json.Unmarshal(files[fileFacts], &a.Facts); err != nil {
		return nil, fmt.Errorf("%s: %w", fileFacts, err)
	}
	if err := json.Unmarshal(files[fileTrail], &a.Trail); err != nil {
		return nil, fmt.Errorf("%s: %w", fileTrail, err)
	}
	return a, a.check(m)
}

// maxEntries bounds the entries of an archive that is read: some more than [archived], so that one too many
// is named.
const maxEntries = 16

// archived are the files of an archive.
var archived = []string{fileManifest, fileSignature, fileCertificates, fileDocument, fileFacts, fileTrail}

// readFiles reads the files of an archive that anybody may have made. It reads no others, so that what the
// archive may fill of the memory has a bound.
func readFiles(r io.ReaderAt, size int64) (map[string][]byte, error) {
	archive, err := zipfile.Open(r, size, maxEntries)
	if err != nil {
		return nil, fmt.Errorf("failed to read the archive: it %w", err)
	}
	files := map[string][]byte{}
	left := int64(maxContent)
	for _, f := range archive.File {
		if _, twice := files[f.Name]; twice {
			return nil, fmt.Errorf("the archive has the file %.100q twice", f.Name)
		}
		if !slices.Contains(archived, f.Name) {
			return nil, fmt.Errorf("the archive has the file %.100q, which no archive of evidence has", f.Name)
		}
		file, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("failed to read %.100q of the archive: %w", f.Name, err)
		}
		content, err := io.ReadAll(io.LimitReader(file, left+1))
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("failed to read %.100q of the archive: %w", f.Name, err)
		}
		if left -= int64(len(content)); left < 0 {
			return nil, fmt.Errorf("the files of the archive are larger than %d bytes", maxContent)
		}
		files[f.Name] = content
	}
	for _, name := range archived {
		if _, found := files[name]; !found {
			return nil, fmt.Errorf("the archive lacks the file %s", name)
		}
	}
	return files, nil
}

// check checks that the parts of an archive fit each other.
func (a *Archive) check(m manifest) error {
	f := &a.Facts
	content, err := ContentDigest(a.Document)
	if err != nil {
		return err
	}
	switch {
	case f.NodeID != m.NodeID || f.JobID != m.JobID:
		return fmt.Errorf(
			"%s is about job %.100q at %.100q, the manifest about job %.100q at %.100q",
			fileFacts,
			f.JobID,
			f.NodeID,
			m.JobID,
			m.NodeID,
		)
	case f.DocumentSHA256 != Digest(a.Document) || f.ContentSHA256 != content:
		return fmt.Errorf("%s: document_sha256 is not the digest of %s", fileFacts, fileDocument)
	case f.TrailArchived != nil && f.TrailArchived.Seq >= f.TrailHead.Seq:
		return fmt.Errorf("%s: entry %d of the audit trail is archived, and its last entry is %d", fileFacts,
			f.TrailArchived.Seq, f.TrailHead.Seq)
	}
	last := int64(0)
	for i := range a.Trail {
		e := &a.Trail[i]
		switch {
		case e.Sum() != e.Hash:
			return fmt.Errorf("%s: entry %d does not fit its hash", fileTrail, e.Seq)
		case e.Object != (audit.Object{Kind: audit.Job, ID: f.JobID}):
			return fmt.Errorf("%s: entry %d is not about job %s", fileTrail, e.Seq, f.JobID)
		case e.Seq <= last || e.Seq > f.TrailHead.Seq:
			return fmt.Errorf("%s: entry %d is out of order", fileTrail, e.Seq)
		}
		last = e.Seq
	}
	return nil
}

// CheckCertificate checks that the certificate which signed an archive names the party of the archive, under
// authorities or by a pinned key. With neither it checks the name only: then the reader must compare the
// fingerprint with the party.
func (a *Archive) CheckCertificate(roots *x509.CertPool, pins []certs.Pin) error {
	if len(pins) > 0 {
		own := certs.PinOf(a.Chain[0])
		if !slices.ContainsFunc(pins, func(p certs.Pin) bool { return p.Equal(own) }) {
			return fmt.Errorf("the key %s that signed the archive is none of the pinned ones", own)
		}
		return nil
	}
	if roots != nil {
		intermediates := x509.NewCertPool()
		for _, cert := range a.Chain[1:] {
			intermediates.AddCert(cert)
		}
		// The certificate counts at the time of the job's end: it may have expired since.
		at := time.Now()
		if a.Facts.EndedAt != nil && at.After(a.Chain[0].NotAfter) {
			at = *a.Facts.EndedAt
		}
		if _, err := a.Chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates,
			CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return fmt.Errorf(
				"the certificate that signed the archive is not under the given authorities: %w",
				err,
			)
		}
	}
	if !names(a.Chain[0], a.Facts.NodeID) {
		return fmt.Errorf("the certificate that signed the archive is for %s, not for node %s",
			certs.Names(a.Chain[0]), a.Facts.NodeID)
	}
	return nil
}
