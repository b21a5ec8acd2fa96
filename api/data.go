package api

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
)

func tableAnswer(t store.DataTable) map[string]any {
	table := map[string]any{"namespace": t.Namespace, "name": t.Name, "count": t.Rows,
		"partitions": t.Partitions, "bytes": t.Bytes,
		"columns": t.Columns, "create_time": t.CreatedAt.UnixMilli(), "update_time": t.UpdatedAt.UnixMilli()}
	if project := viewProject(t.Project); project != "" {
		table["project"] = project
	}
	return table
}

// queryDatasets lists the datasets that were uploaded to this party, of one namespace or all. With jobs=true
// it also lists the jobs that read them.
func (s *Server) queryDatasets(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ctx, err := s.listContext(c.UserContext(), get)
	if err != nil {
		return err
	}
	tables, err := s.store.DataTables(ctx, get("namespace"))
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, t := range tables {
		if name := get("name"); name != "" && name != t.Name {
			continue
		}
		entry := tableAnswer(t)
		if get("jobs") == "true" {
			if entry["jobs"], err = s.store.JobsWithDataset(ctx, t.Namespace,
				t.Name); err != nil {
				return err
			}
		}
		list = append(list, entry)
	}
	return answer(c, "success", list, nil)
}

// downloadDataset sends a dataset as one CSV file, or another output's object unchanged. FATE's clients
// always
// say in which folder of theirs they unpack a download; they get the archive that they can unpack.
func (s *Server) downloadDataset(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	if get("path") != "" {
		c.Locals(localFATECodes, fateclient.OfTable)
		return s.fateDownload(c, get)
	}
	namespace, name := get("namespace"), get("name")
	if err := bfia.CheckID("namespace", namespace); err != nil {
		return err
	}
	if err := bfia.CheckID("name", name); err != nil {
		return err
	}
	on(c.UserContext(), audit.Dataset, namespace+"#"+name)
	rc, contentType, err := s.openData(c.UserContext(), namespace, name)
	if err != nil {
		return err
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return errors.Join(err, rc.Close())
	}
	c.Set(fiber.HeaderContentType, contentType)
	c.Context().SetBodyStream(rc, -1)
	return nil
}

// openData opens a dataset as one CSV stream. It opens the only object of another output unchanged, and
// several objects as a tar archive.
func (s *Server) openData(ctx context.Context, namespace, name string) (io.ReadCloser, string, error) {
	if err := s.checkKnown(ctx, namespace, name); err != nil {
		return nil, "", err
	}
	m, err := s.datasets.Metadata(ctx, namespace, name)
	switch {
	case bfia.CodeOf(err) == bfia.CodeNotFound && bfia.IsOutputNamespace(s.Node, namespace):
		return s.openObjects(ctx, namespace+"/"+name, err)
	case err != nil:
		return nil, "", err
	case m.FileType == "", m.FileType == "csv":
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

// openObjects opens an output that its component wrote without metadata. It returns missing if there is none.
func (s *Server) openObjects(ctx context.Context, key string, missing error) (io.ReadCloser, string, error) {
	objects, err := s.blobs.List(ctx, key)
	switch {
	case err != nil:
		return nil, "", err
	case len(objects) == 0:
		return nil, "", missing
	case len(objects) == 1:
		rc, err := s.blobs.Get(ctx, objects[0].Key)
		return rc, fiber.MIMEOctetStream, err
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(s.writeTar(ctx, w, key, objects)) }()
	return r, "application/x-tar", nil
}

// writeTar writes the objects below a key as a tar archive.
func (s *Server) writeTar(ctx context.Context, w io.Writer, key string, objects []blob.Info) error {
	archive := tar.NewWriter(w)
	for _, o := range objects {
		header := &tar.Header{Name: strings.TrimPrefix(o.Key, key+"/"), Mode: 0o600, Size: o.Size,
			ModTime: o.ModTime}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		object, err := s.blobs.Get(ctx, o.Key)
		if err != nil {
			return err
		}
		_, err = io.Copy(archive, object)
		if err := errors.Join(err, object.Close()); err != nil {
			return err
		}
	}
	return archive.Close()
}
