package api

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store/dataset"
)

const rows = "id,y,x0\na,1,0.5\nb,0,0.25\n"

func (p *party) download(namespace, name string) string {
	p.t.Helper()
	r := p.send(get(bfia.PathDataDownload + "?namespace=" + namespace + "&name=" + name))
	require.Equal(p.t, 200, r.Status, "%s", r.Body)
	require.Equal(p.t, "text/csv; charset=utf-8", r.Header.Get("Content-Type"))
	return string(r.Body)
}

func TestUploadServerFile(t *testing.T) {
	p := newParty(t)
	body := vector(t, "component_upload.request.json")
	require.NoError(t, os.MkdirAll(filepath.Join(p.uploads, "examples", "data"), 0o755))
	p.file("examples/data/breast_hetero_guest.csv", rows)
	for _, path := range []string{bfia.PathComponentUpload, bfia.PathDataUpload} {
		var table struct {
			Count, Partitions int
			Columns           []struct{ Name, Type string }
		}
		p.good(post(path, body)).into(&table)
		require.Equal(t, 2, table.Count)
		require.Equal(t, 16, table.Partitions)
		require.Len(t, table.Columns, 4, "with the sid")
	}
	absolute := filepath.Join(p.uploads, "examples", "data", "breast_hetero_guest.csv")
	p.good(post(bfia.PathComponentUpload, map[string]any{"file": absolute, "namespace": "n",
		"name": "absolute"}))
	require.NoError(t, os.Symlink("examples/data/breast_hetero_guest.csv",
		filepath.Join(p.uploads, "inside.csv")))
	p.good(post(bfia.PathComponentUpload, map[string]any{"file": "inside.csv", "namespace": "n",
		"name": "link"}))
	require.Equal(t, rows, p.download("n", "link"))
}

func TestUploadServerFileRefuses(t *testing.T) {
	p := newParty(t)
	outside := filepath.Join(t.TempDir(), "secret.csv")
	require.NoError(t, os.WriteFile(outside, []byte(rows), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(p.uploads, "link.csv")))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(p.uploads, "dir")))
	require.NoError(t, os.Symlink("nowhere.csv", filepath.Join(p.uploads, "dangling.csv")))
	require.NoError(t, os.Mkdir(filepath.Join(p.uploads, "folder"), 0o755))
	require.NoError(t, syscall.Mkfifo(filepath.Join(p.uploads, "pipe"), 0o600))
	// A folder whose name begins as the upload folder's is outside.
	require.NoError(t, os.Mkdir(p.uploads+"2", 0o755))
	require.NoError(t, os.WriteFile(p.uploads+"2/x.csv", []byte(rows), 0o600))
	p.file("good.csv", rows)
	p.file("large.csv", "id\n"+strings.Repeat("0123456789\n", 400_000))
	up, err := filepath.Rel(p.uploads, outside)
	require.NoError(t, err)
	for _, c := range []struct {
		file   any
		status int
		code   bfia.Code
		words  string
	}{
		{up, 403, bfia.CodeForbidden, "outside the upload folder"},
		{"folder/../../upload2/x.csv", 403, bfia.CodeForbidden, "outside the upload folder"},
		{"../upload2/x.csv", 403, bfia.CodeForbidden, "outside"},
		{outside, 403, bfia.CodeForbidden, "outside"},
		{"/etc/passwd", 403, bfia.CodeForbidden, "outside"},
		{"/no/such/file", 403, bfia.CodeForbidden, "outside"},
		{"../nothing.csv", 403, bfia.CodeForbidden, "outside"},
		{"link.csv", 403, bfia.CodeForbidden, "outside"},
		{"dir/secret.csv", 403, bfia.CodeForbidden, "outside"},
		{"dangling.csv", 404, bfia.CodeNotFound, "not in the upload folder"},
		{"nothing.csv", 404, bfia.CodeNotFound, `"nothing.csv" is not in the upload folder`},
		{"good.csv/x", 404, bfia.CodeNotFound, "not in the upload folder"},
		{"a\x00b", 404, bfia.CodeNotFound, "file:"},
		{".", 403, bfia.CodeForbidden, "outside"},
		{"folder", 400, bfia.CodeBadRequest, "not a regular file"},
		{"pipe", 400, bfia.CodeBadRequest, "not a regular file"},
		{"large.csv", 413, bfia.CodeTooLarge, "is longer than 4194304 bytes"},
		{"", 400, bfia.CodeBadRequest, "file:"},
		{7, 400, bfia.CodeBadRequest, "file:"},
		{nil, 400, bfia.CodeBadRequest, "file:"},
	} {
		p.bad(post(bfia.PathComponentUpload, map[string]any{"file": c.file, "namespace": "n", "name": "d"}),
			c.status, c.code, c.words)
	}
	for body, words := range map[string]string{
		`{"namespace":"n","name":"d"}`:                                    "file: is required",
		`{"file":"good.csv","namespace":"","name":"d"}`:                   "namespace: is required",
		`{"file":"good.csv","namespace":"n","name":""}`:                   "name: is required",
		`{"file":"good.csv","namespace":"../n","name":"d"}`:               "namespace:",
		`{"file":"good.csv","namespace":"n","name":"a/b"}`:                "name:",
		`{"file":"good.csv","namespace":"n","name":"d","partitions":"x"}`: "partitions: is a JSON string, must be a number",
		`{"file":"good.csv","namespace":"n","name":"d","partitions":1.5}`: "partitions:",
		`{"file":"good.csv","namespace":"n","name":"d","partitions":-1}`:  "partitions:",
		`{"file":"good.csv","namespace":"n","name":"d","head":"yes"}`:     "head:",
		`{"file":"good.csv","namespace":"n","name":"d","meta":[]}`:        "meta:",
		`{"file":"good.csv","namespace":"n","name":"d","shape":"round"}`:  "shape: is not a field of an upload",
		`{"file":"good.csv","namespace":"n","name":"d"`:                   "body:",
		`[]`:   "body:",
		`null`: "file: is required",
		``:     "body:",
	} {
		p.bad(post(bfia.PathComponentUpload, body), 400, bfia.CodeBadRequest, words)
	}
	p.empty()

	closed := newParty(t, func(c *Config) { c.UploadDir = "" })
	closed.bad(post(bfia.PathComponentUpload,
		map[string]any{"file": "good.csv", "namespace": "n",
			"name": "d"}), 403, bfia.CodeForbidden, "upload.dir is not set")
}

// Fields may precede or follow the file, as strings, as JSON, or as Python writes them.
func TestUploadForm(t *testing.T) {
	p := newParty(t)
	file := field{"file", rows}
	for name, fields := range map[string][]field{
		"last": {{"namespace", "n"}, {"name", "last"}, {"head", "true"}, {"partitions", "2"},
			{"meta", `{"delimiter": ",", "match_id_name": "id"}`}, file},
		"first": {file, {"namespace", "n"}, {"name", "first"}, {"head", "True"}, {"extend_sid", "False"},
			{"partitions", "2"}},
		"2024": {{"namespace", "n"}, file, {"name", "2024"}, {"partitions", "2"}},
	} {
		for _, path := range []string{bfia.PathComponentFile, bfia.PathDataFile} {
			var table struct {
				Name              string
				Count, Partitions int
			}
			p.good(form(t, path, fields...)).into(&table)
			require.Equal(t, name, table.Name)
			require.Equal(t, 2, table.Count)
			require.Equal(t, 2, table.Partitions)
			require.ElementsMatch(t, strings.Split(rows, "\n"), strings.Split(p.download("n", name), "\n"))
		}
	}
	left, err := os.ReadDir(p.temp)
	require.NoError(t, err)
	require.Empty(t, left)

	var list []struct{ Namespace, Name string }
	p.good(get(bfia.PathDataQuery)).into(&list)
	require.Len(t, list, 3)
	p.good(get(bfia.PathDataQuery + "?namespace=n&name=first")).into(&list)
	require.Len(t, list, 1)
	p.good(call{method: "GET", path: bfia.PathDataQuery, body: `{"namespace": "other"}`}).into(&list)
	require.Empty(t, list)
}

// A failed upload leaves neither a temporary file nor a dataset.
// TestUploadRepeatedIDs checks that ids may repeat if a sid identifies the rows, and only then.
func TestUploadRepeatedIDs(t *testing.T) {
	p := newParty(t)
	upload := func(sid string) call {
		return form(t, bfia.PathComponentFile, field{"head", "true"}, field{"partitions", "2"},
			field{"extend_sid", sid}, field{"meta", `{"delimiter":",","match_id_name":"id"}`},
			field{"namespace", "ns"}, field{"name", "repeated"}, field{"file",
				"id,y,x\n1001,1,0.1\n1001,0,0.2\n"})
	}
	p.good(upload("true"))
	r := p.send(get(bfia.PathDataDownload + "?namespace=ns&name=repeated"))
	require.Equal(t, 200, r.Status)
	require.Regexp(t, "^sid,id,y,x\n[^,]+-1,1001,1,0.1\n[^,]+-2,1001,0,0.2\n$", string(r.Body))
	p.bad(upload("false"), 400, bfia.CodeBadRequest, `line 3: has the same id (column "id") as line 2`)
}

func TestUploadFormRefuses(t *testing.T) {
	p := newParty(t)
	to := []field{{"namespace", "n"}, {"name", "d"}}
	with := func(more ...field) []field { return append(append([]field{}, to...), more...) }
	for name, c := range map[string]struct {
		fields []field
		status int
		words  string
	}{
		"ragged":        {with(field{"file", "id,x\n1,2\n3\n"}), 400, "line 3"},
		"ragged, first": {append([]field{{"file", "id,x\n1,2\n3,4,5\n"}}, to...), 400, "line 3"},
		"duplicate id":  {with(field{"file", "id,x\n1,2\n3,4\n1,5\n"}), 400, "line 4: has the same id"},
		"no label":      {with(field{"meta", `{"label_name":"z"}`}, field{"file", rows}), 400, "label"},
		"no id": {with(field{"meta", `{"match_id_name":"z"}`}, field{"file", rows}), 400,
			"match_id_name"},
		"delimiter": {with(field{"meta", `{"delimiter":"too long"}`}, field{"file", rows}), 400,
			"meta.delimiter"},
		"meta type":     {with(field{"meta", `5`}, field{"file", rows}), 400, "meta"},
		"empty":         {with(field{"file", ""}), 400, ""},
		"NUL":           {with(field{"file", "id\n\x00\n"}), 400, "line 2"},
		"invalid UTF-8": {with(field{"file", "id,x\n1,\xff\n"}), 400, "line 2"},
		"no file":       {to, 400, "file: is required"},
		"two files":     {with(field{"file", rows}, field{"file", rows}), 400, "file: is given twice"},
		"a field twice": {with(field{"name", "e"}, field{"file", rows}), 400, "name: is given twice"},
		"unknown field": {with(field{"colour", "red"}, field{"file", rows}), 400,
			"colour: is not a field of an upload"},
		"no name": {[]field{{"namespace", "n"}, {"name", ""}, {"file", rows}}, 400,
			"name: is required"},
		"partitions":      {with(field{"partitions", "many"}, field{"file", rows}), 400, "partitions:"},
		"many partitions": {with(field{"partitions", "100000"}, field{"file", rows}), 400, "partitions:"},
		"head":            {with(field{"head", "maybe"}, field{"file", rows}), 400, "head:"},
		"bad name":        {with(field{"file", rows})[1:2], 400, "file: is required"},
		"path":            {[]field{{"namespace", "n"}, {"name", "../../x"}, {"file", rows}}, 400, "name:"},
		"field UTF-8":     {with(field{"meta", "\xff"}, field{"file", rows}), 400, "meta: is not UTF-8"},
		"large file": {with(field{"file", "id\n" + strings.Repeat("x", 4<<20)}), 413,
			"file: is longer than 4194304 bytes"},
		"large field": {with(field{"meta", strings.Repeat("x", 2<<20)}), 413,
			"meta: is longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			code := bfia.CodeBadRequest
			if c.status == 413 {
				code = bfia.CodeTooLarge
			}
			p.bad(form(t, bfia.PathComponentFile, c.fields...), c.status, code, c.words)
			p.empty()
		})
	}
	whole := form(t, bfia.PathComponentFile, with(field{"file", rows})...)
	short := whole
	short.body = whole.body.([]byte)[:len(whole.body.([]byte))-40]
	p.bad(short, 400, bfia.CodeBadRequest, "body: ended too early")
	p.bad(post(bfia.PathComponentFile, rows).with("Content-Type", "text/csv"), 400, bfia.CodeBadRequest,
		"multipart/form-data")
	p.bad(post(bfia.PathComponentFile, rows).with("Content-Type", "multipart/form-data"), 400,
		bfia.CodeBadRequest, "multipart/form-data")
	p.bad(post(bfia.PathComponentFile, rows).with("Content-Type", "multipart/form-data; boundary=x"), 400,
		bfia.CodeBadRequest, "file: is required")
	p.empty()
	var list []any
	p.good(get(bfia.PathDataQuery)).into(&list)
	require.Empty(t, list)
}

// An upload replaces an existing dataset completely or not at all.
func TestUploadReplaces(t *testing.T) {
	p := newParty(t)
	up := func(file, partitions string) call {
		return form(t, bfia.PathComponentFile, field{"namespace", "n"}, field{"name", "d"},
			field{"partitions", partitions}, field{"file", file})
	}
	p.good(up(rows, "8"))
	p.bad(up("id,x\n1,2\n1,3\n", "2"), 400, bfia.CodeBadRequest, "line 3")
	require.ElementsMatch(t, strings.Split(rows, "\n"), strings.Split(p.download("n", "d"), "\n"))
	p.good(up("k,v\n1,2\n", "1"))
	require.Equal(t, "k,v\n1,2\n", p.download("n", "d"))
	var list []struct {
		Count, Partitions int
		Created           int64 `json:"create_time"`
		Updated           int64 `json:"update_time"`
	}
	p.good(get(bfia.PathDataQuery)).into(&list)
	require.Len(t, list, 1)
	require.Equal(t, 1, list[0].Count)
	require.Equal(t, 1, list[0].Partitions)
	require.NoError(t, dataset.New(p.blobs, p.store).Sweep(t.Context(), 0))
	objects, err := p.blobs.List(t.Context(), "n")
	require.NoError(t, err)
	require.Len(t, objects, 2, "data_0 and metadata")
}

func TestDownloadRefuses(t *testing.T) {
	p := newParty(t)
	p.bad(get(bfia.PathDataDownload), 400, bfia.CodeBadRequest, "namespace: is required")
	p.bad(get(bfia.PathDataDownload+"?namespace=n"), 400, bfia.CodeBadRequest, "name: is required")
	p.bad(get(bfia.PathDataDownload+"?namespace=..&name=x"), 400, bfia.CodeBadRequest, "namespace:")
	p.bad(get(bfia.PathDataDownload+"?namespace=n&name=x"), 404, bfia.CodeNotFound)
}

// Models and reports are single objects. They are returned unchanged.
func TestDownloadOutput(t *testing.T) {
	p := newParty(t)
	secret := []byte(rand.Text())
	for name, kind := range map[string]string{"report": "json", "model": "bin"} {
		content := secret
		if kind == "json" {
			content = []byte(`{"auc":0.99}`)
		}
		require.NoError(t, p.blobs.Put(t.Context(), "o/"+name+"/data_0", bytes.NewReader(content)))
		meta, err := json.Marshal(map[string]any{"file_type": kind, "partitions": 1})
		require.NoError(t, err)
		require.NoError(t, p.blobs.Put(t.Context(), "o/"+name+"/metadata", bytes.NewReader(meta)))
		r := p.send(call{method: http.MethodGet, path: bfia.PathDataDownload,
			body: map[string]any{"namespace": "o", "name": name}})
		require.Equal(t, 200, r.Status)
		require.Equal(t, content, r.Body)
	}

	// An algorithm that wrote to a full disk leaves an empty file.
	require.NoError(t, p.blobs.Put(t.Context(), "o/model/metadata", bytes.NewReader(nil)))
	r := p.send(call{method: http.MethodGet, path: bfia.PathDataDownload,
		body: map[string]any{"namespace": "o", "name": "model"}})
	require.Equal(t, http.StatusConflict, r.Status)
	require.Contains(t, string(r.Body), "the object o/model/metadata, as the algorithm wrote it, is empty")
}
