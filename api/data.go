package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"os"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
)

// uploadServerFile makes a dataset of a file that lies in this party's upload folder (the seed's /v2/component/upload).
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
		return bfia.Errorf(bfia.CodeBadRequest, "file: a path is wanted")
	}
	delete(fields, "file")
	req, err := parseUpload(fields)
	if err != nil {
		return err
	}
	path, err := s.inUploadDir(name)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return bfia.Wrap(bfia.CodeNotFound, err, "file: %q can't be read", name)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return bfia.Errorf(bfia.CodeBadRequest, "file: %q is no regular file", name)
	} else if info.Size() > s.MaxUploadBytes {
		return bfia.Errorf(bfia.CodeTooLarge, "file: %q is over %d bytes", name, s.MaxUploadBytes)
	}
	return s.ingest(c, req, f)
}

// uploadFile makes a dataset of a file that the request carries, in a multipart form (the seed's /v2/component/upload/file).
// The file goes to disk as it arrives, since the fields that say how to read it may stand after it.
func (s *Server) uploadFile(c *fiber.Ctx) error {
	boundary := string(c.Request().Header.MultipartFormBoundary())
	if boundary == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "body: a multipart/form-data form with the file is wanted")
	}
	form := multipart.NewReader(s.bodyStream(c), boundary)
	fields := map[string]json.RawMessage{}
	var file *os.File
	defer func() {
		if file != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return readError(err)
		}
		name := part.FormName()
		if name == "file" {
			if file != nil {
				return bfia.Errorf(bfia.CodeBadRequest, "file: stands there twice")
			}
			if file, err = os.CreateTemp(s.TempDir, "upload-*"); err != nil {
				return bfia.Wrap(bfia.CodeInternal, err, "there is no room for the file")
			}
			n, err := io.Copy(file, io.LimitReader(part, s.MaxUploadBytes+1))
			if err != nil {
				return readError(err)
			}
			if n > s.MaxUploadBytes {
				return bfia.Errorf(bfia.CodeTooLarge, "file: is over %d bytes", s.MaxUploadBytes)
			}
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, s.MaxDocumentBytes+1))
		if err != nil {
			return readError(err)
		}
		if int64(len(value)) > s.MaxDocumentBytes {
			return bfia.Errorf(bfia.CodeTooLarge, "%s: is over %d bytes", name, s.MaxDocumentBytes)
		}
		fields[name] = formValue(value)
	}
	if file == nil {
		return bfia.Errorf(bfia.CodeBadRequest, "file: is required")
	}
	req, err := parseUpload(fields)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return bfia.Wrap(bfia.CodeInternal, err, "the file can't be read again")
	}
	return s.ingest(c, req, file)
}

// formValue reads a form's field: JSON where it is an object, a number or true or false, else a string. Python's True and
// False, which FATE's client writes, are booleans too.
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

// parseUpload reads what an upload says besides its file. Unknown fields are refused: they would be silently lost.
func parseUpload(fields map[string]json.RawMessage) (dataset.IngestRequest, error) {
	req := dataset.IngestRequest{Head: true, Partitions: 1}
	for name, raw := range fields {
		var into any
		switch name {
		case "namespace":
			into = &req.Namespace
		case "name":
			into = &req.Name
		case "head":
			into = &req.Head
		case "partitions":
			into = &req.Partitions
		case "extend_sid":
			into = &req.ExtendSID
		case "meta":
			req.Meta = raw
			continue
		default:
			return req, bfia.Errorf(bfia.CodeBadRequest, "%s: is no field of an upload (file, head, partitions, extend_sid, meta, namespace, name)", name)
		}
		if err := bfia.DecodeJSON(raw, into); err != nil {
			return req, bfia.Errorf(bfia.CodeBadRequest, "%s: %s", name, strings.TrimPrefix(bfia.MessageOf(err), "body: "))
		}
	}
	// They become parts of dataset_id, so they are held to its form.
	if err := bfia.CheckID("namespace", req.Namespace); err != nil {
		return req, err
	}
	return req, bfia.CheckID("name", req.Name)
}

func (s *Server) ingest(c *fiber.Ctx, req dataset.IngestRequest, r io.Reader) error {
	table, err := s.datasets.Ingest(c.Context(), req, r)
	if err != nil {
		return err
	}
	if err := s.store.PutDataTable(c.Context(), table); err != nil {
		return err
	}
	s.logger.Info("dataset stored", "namespace", table.Namespace, "name", table.Name, "rows", table.Rows, "partitions", table.Partitions)
	return answer(c, "success", tableAnswer(table), nil)
}

func tableAnswer(t store.DataTable) map[string]any {
	return map[string]any{"namespace": t.Namespace, "name": t.Name, "count": t.Rows, "partitions": t.Partitions, "bytes": t.Bytes,
		"columns": t.Columns, "create_time": t.CreatedAt.UnixMilli(), "update_time": t.UpdatedAt.UnixMilli()}
}

// queryDatasets lists the datasets that were uploaded here, of one namespace or all.
func (s *Server) queryDatasets(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	tables, err := s.store.DataTables(c.Context(), get("namespace"))
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, t := range tables {
		if name := get("name"); name == "" || name == t.Name {
			list = append(list, tableAnswer(t))
		}
	}
	return answer(c, "success", list, nil)
}

// downloadDataset sends a dataset as one CSV file, or an output's document as it is.
func (s *Server) downloadDataset(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	namespace, name := get("namespace"), get("name")
	if err := bfia.CheckID("namespace", namespace); err != nil {
		return err
	}
	if err := bfia.CheckID("name", name); err != nil {
		return err
	}
	rc, contentType, err := s.openData(c.Context(), namespace, name)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, contentType)
	c.Context().SetBodyStream(rc, -1)
	return nil
}

// openData opens a dataset as CSV, whole, or another output's only object as it is.
func (s *Server) openData(ctx context.Context, namespace, name string) (io.ReadCloser, string, error) {
	m, err := s.datasets.Metadata(ctx, namespace, name)
	if err != nil {
		return nil, "", err
	}
	switch m.FileType {
	case "", "csv":
		rc, err := s.datasets.Open(ctx, namespace, name)
		return rc, "text/csv; charset=utf-8", err
	}
	contentType := fiber.MIMEOctetStream
	if m.FileType == "json" {
		contentType = fiber.MIMEApplicationJSON
	}
	key, err := dataset.Key(namespace, name)
	if err != nil {
		return nil, "", err
	}
	rc, err := s.blobs.Get(ctx, key+"/data_0")
	return rc, contentType, err
}
