package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"mime/multipart"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/httpguard"
	"hutong/internal/identity"
	"hutong/internal/limits"
	"hutong/store/dataset"
)

// uploadServerFile creates a dataset from a file in this party's upload folder.
func (s *Server) uploadServerFile(c *fiber.Ctx) error {
	body, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := bfia.DecodeJSON(body, &fields); err != nil {
		return err
	}
	var name string
	if raw, ok := fields["file"]; !ok {
		return bfia.Errorf(bfia.CodeBadRequest, "file: is required")
	} else if err := json.Unmarshal(raw, &name); err != nil || name == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "file: must be a path")
	}
	delete(fields, "file")
	req, err := parseUpload(fields)
	if err != nil {
		return err
	}
	f, err := s.openUpload(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return s.ingest(c, req, f)
}

// uploadFile creates a dataset from a file in a multipart form. The file is written to disk as it arrives,
// since the fields that say how to read it may follow it.
func (s *Server) uploadFile(c *fiber.Ctx) error {
	boundary := string(c.Request().Header.MultipartFormBoundary())
	if boundary == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "body: must be a multipart/form-data form with the file")
	}
	caller := identity.From(c.UserContext())
	release, err := s.Callers.Upload(caller)
	if err != nil {
		return tooMany(err)
	}
	defer release()
	stream := s.bodyStream(c)
	form := uploadForm{fields: map[string]json.RawMessage{}, server: s, caller: caller}
	defer form.close()
	for parts := multipart.NewReader(stream, boundary); ; {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return readError(err)
		}
		if err := form.take(part, stream); err != nil {
			return err
		}
	}
	// What follows the form's end does not matter, unless it breaks HTTP's framing.
	_, err = io.CopyN(io.Discard, stream, s.MaxDocumentBytes)
	var fault *httpguard.Error
	if errors.As(err, &fault) {
		return readError(err)
	}
	if form.file == nil {
		return bfia.Errorf(bfia.CodeBadRequest, "file: is required")
	}
	req, err := parseUpload(form.fields)
	if err != nil {
		return err
	}
	if _, err := form.file.Seek(0, io.SeekStart); err != nil {
		return bfia.Wrap(bfia.CodeInternal, err, "failed to read the uploaded file again")
	}
	return s.ingest(c, req, form.file)
}

// uploadForm holds the parts of an upload's form that have arrived.
type uploadForm struct {
	caller identity.Principal
	server *Server
	fields map[string]json.RawMessage
	file   *os.File
}

func (f *uploadForm) close() {
	if f.file != nil {
		_ = f.file.Close()
	}
}

// take reads one part. It refuses unknown names and repeated ones before it reads their values, since a form
// could hold any number of them.
func (f *uploadForm) take(part *multipart.Part, stream *body) error {
	name := part.FormName()
	if _, twice := f.fields[name]; twice || name == "file" && f.file != nil {
		return bfia.Errorf(bfia.CodeBadRequest, "%s: is given twice", name)
	}
	if name == "file" {
		return f.takeFile(part, stream)
	}
	if !slices.Contains(uploadFields, name) && !slices.Contains(ignoredUploadFields, name) {
		return unknownUploadField(name)
	}
	value, err := io.ReadAll(io.LimitReader(part, f.server.MaxDocumentBytes+1))
	switch {
	case err != nil:
		return readError(err)
	case int64(len(value)) > f.server.MaxDocumentBytes:
		return bfia.Errorf(bfia.CodeTooLarge, "%s: is longer than %d bytes", name, f.server.MaxDocumentBytes)
	case !utf8.Valid(value):
		return bfia.Errorf(bfia.CodeBadRequest, "%s: is not UTF-8", name)
	}
	if name == "namespace" || name == "name" {
		f.fields[name], _ = json.Marshal(string(value)) // also if it looks like a number
	} else {
		f.fields[name] = formValue(value)
	}
	return nil
}

func (f *uploadForm) takeFile(part io.Reader, stream *body) (err error) {
	if f.file, err = os.CreateTemp(f.server.TempDir, "upload-*"); err != nil {
		return bfia.Wrap(bfia.CodeInternal, err, "failed to store the uploaded file")
	}
	// Without a name the file disappears with this process, however that ends.
	if err := os.Remove(f.file.Name()); err != nil {
		return bfia.Wrap(bfia.CodeInternal, err, "failed to unlink the temporary file")
	}
	n, err := io.Copy(f.file, io.LimitReader(f.counted(part), f.server.MaxUploadBytes+1))
	var exceeded *limits.Exceeded
	var disk *fs.PathError
	switch {
	case errors.As(err, &exceeded):
		return tooMany(exceeded)
	case stream.err == nil && errors.As(err, &disk):
		return bfia.Wrap(bfia.CodeInternal, err, "failed to store the uploaded file")
	case err != nil:
		return readError(err)
	case n > f.server.MaxUploadBytes:
		return bfia.Errorf(bfia.CodeTooLarge,
			"file: is longer than %d bytes, the limit upload.max_bytes of this party",
			f.server.MaxUploadBytes)
	}
	return nil
}

// counted returns a reader that counts against what its caller may upload.
func (f *uploadForm) counted(r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		if exceeded := f.server.Callers.Uploaded(f.caller, n); exceeded != nil {
			return n, exceeded
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// formValue reads a form's field: an object, a number or a boolean as JSON, anything else as a string. It
// accepts Python's True and False, which FATE's client writes.
func formValue(b []byte) json.RawMessage {
	switch trimmed := strings.TrimSpace(string(b)); {
	case trimmed == "True" || trimmed == "False":
		return json.RawMessage(strings.ToLower(trimmed))
	case trimmed != "" && json.Valid([]byte(trimmed)) && trimmed[0] != '"':
		return json.RawMessage(trimmed)
	}
	quoted, _ := json.Marshal(string(b)) // a string always marshals
	return quoted
}

// uploadFields lists the fields of an upload besides its file.
var uploadFields = []string{"head", "partitions", "extend_sid", "meta", "namespace", "name",
	"encoding", "project"}

// ignoredUploadFields are fields that FATE's clients may send: the party that they ask is meant.
var ignoredUploadFields = []string{"role", "party_id"}

func unknownUploadField(name string) error {
	return bfia.Errorf(bfia.CodeBadRequest, "%s: is not a field of an upload (file, %s)", name,
		strings.Join(uploadFields, ", "))
}

// uploadNamespace is the namespace of an upload that names none, as at FATE-Flow.
const uploadNamespace = "upload"

// parseUpload reads the fields of an upload besides its file. It refuses unknown fields, which would be lost
// silently. An upload without an address gets one.
func parseUpload(fields map[string]json.RawMessage) (dataset.IngestRequest, error) {
	req := dataset.IngestRequest{Head: true, Partitions: 1, Namespace: uploadNamespace,
		Name: uuid.NewString()}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[name]
		var into any
		switch name {
		case "namespace":
			into = &req.Namespace
		case "name":
			into = &req.Name
		case "head":
			into = (*head)(&req.Head)
		case "partitions":
			into = &req.Partitions
		case "extend_sid":
			into = &req.ExtendSID
		case "encoding":
			into = &req.Encoding
		case "project":
			into = &req.Project
		case "meta":
			req.Meta = raw
			continue
		case "role", "party_id":
			continue
		default:
			return req, unknownUploadField(name)
		}
		if err := bfia.DecodeJSON(raw, into); err != nil {
			return req, bfia.Errorf(bfia.CodeBadRequest, "%s: %s", name,
				strings.TrimPrefix(bfia.MessageOf(err), "body: "))
		}
	}
	// They become parts of dataset_id, so they must have its form.
	if err := bfia.CheckID("namespace", req.Namespace); err != nil {
		return req, err
	}
	return req, bfia.CheckID("name", req.Name)
}

// head is whether a file has a header: true or false, or 1 or 0 as FATE's examples have it, also as a string.
type head bool

// UnmarshalJSON reads any of these spellings.
func (h *head) UnmarshalJSON(b []byte) error {
	switch strings.ToLower(text(b)) {
	case "true", "1":
		*h = true
	case "false", "0":
		*h = false
	default:
		return bfia.Errorf(bfia.CodeBadRequest, "body: is %s, must be true or false", b)
	}
	return nil
}

func (s *Server) ingest(c *fiber.Ctx, req dataset.IngestRequest, r io.Reader) error {
	address := bfia.Address{Namespace: req.Namespace, Name: req.Name}
	on(c.UserContext(), audit.Dataset, address.String())
	if err := s.refuseOutput(c.UserContext(), address); err != nil {
		return err
	}
	if _, synthetic := address.Rehearsed(); synthetic {
		return bfia.Errorf(bfia.CodeConflict, "namespace: %q is reserved for the synthetic rows of rehearsals; "+
			"choose another one", req.Namespace)
	}
	var err error
	if req.Project, err = s.uploadProject(c.UserContext(), req.Project); err != nil {
		return err
	}
	into := cmp.Or(req.Project, identity.DefaultProject)
	if err := s.store.CheckStorage(c.UserContext(), into); err != nil {
		return err
	}
	if err := s.store.CheckDataName(c.UserContext(), req.Namespace, req.Name, req.Project); err != nil {
		return err
	}
	table, err := s.datasets.Ingest(c.UserContext(), req, r)
	if err != nil {
		return err
	}
	s.logger.Info("dataset stored", "namespace", table.Namespace, "name", table.Name, "rows", table.Rows,
		"partitions", table.Partitions)
	// FATE's pipeline waits for the job of an upload. The upload's generation names it ([Server.fateUpload]).
	return answer(c, "success", tableAnswer(table), map[string]any{"job_id": table.Generation})
}
