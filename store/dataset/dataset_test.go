package dataset

import (
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// each runs f with a folder, and with the S3 server at HUTONG_TEST_S3 if there is one.
func each(t *testing.T, f func(t *testing.T, d *Datasets, blobs blob.Store)) {
	t.Helper()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		d, blobs := folder(t)
		f(t, d, blobs)
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		address := os.Getenv("HUTONG_TEST_S3")
		if address == "" {
			t.Skip("HUTONG_TEST_S3 names no S3 server")
		}
		u, err := url.Parse(address)
		require.NoError(t, err)
		q := u.Query()
		q.Set("bucket", "hutong-test-"+strings.ToLower(rand.Text()))
		u.RawQuery = q.Encode()
		blobs, err := blob.Open(t.Context(), u.String())
		require.NoError(t, err)
		f(t, New(blobs, storetest.Open(t, storetest.SQLite(t))), blobs)
	})
}

func folder(t testing.TB) (*Datasets, *blob.File) {
	t.Helper()
	blobs, err := blob.Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "storage"))
	require.NoError(t, err)
	return New(blobs, storetest.Open(t, storetest.SQLite(t))), blobs.(*blob.File)
}

func requireCode(t *testing.T, code bfia.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, bfia.CodeOf(err), "%v", err)
}

func object(t *testing.T, blobs blob.Store, key string) string {
	t.Helper()
	r, err := blobs.Get(t.Context(), key)
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func whole(t *testing.T, d *Datasets, namespace, name string) string {
	t.Helper()
	r, err := d.Open(t.Context(), namespace, name)
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func TestIngest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *Datasets, blobs blob.Store) {
		ctx := t.Context()
		req := IngestRequest{Namespace: "experiment", Name: "breast_hetero_guest", Head: true, Partitions: 4,
			Meta: json.RawMessage(`{"delimiter": ";", "label_name": "y", "match_id_name": "id",
				"weight_name": null, "tag": {"n": 1.00}}`)}
		file := "\uFEFFy;id;x0;名\r\n1;a;0.5;\"p;\"\"q\"\"\r\nr\"\r\n0;b;1;\r\n1;c;;s,t\r\n\r\n0;d;-2e3;u"
		table, err := d.Ingest(ctx, req, strings.NewReader(file))
		require.NoError(t, err)
		require.Equal(
			t,
			[]store.Column{
				{Name: "y", Type: "int64"},
				{Name: "id", Type: "string"},
				{Name: "x0", Type: "float64"},
				{Name: "名", Type: "string"},
			},
			table.Columns,
		)
		require.EqualValues(t, 4, table.Rows)
		require.Equal(t, 4, table.Partitions)
		require.Equal(t, req.Meta, table.Meta)
		require.WithinDuration(t, time.Now(), table.CreatedAt, time.Minute)

		// FNV-1a 64 of one letter, worked out by hand: (offset ^ letter) * prime; its lowest bits are those
		// of letter ^ 0x25 times 0xb3.
		rows := map[string]string{
			"a": "1,a,0.5,\"p;\"\"q\"\"\nr\"\n",
			"b": "0,b,1,\n",
			"c": "1,c,,\"s,t\"\n",
			"d": "0,d,-2e3,u\n",
		}
		var want [4]string
		for _, id := range []string{"a", "b", "c", "d"} {
			want[((int(id[0])^0x25)*0xb3)%4] += rows[id]
		}
		var bytes int64
		all := "y,id,x0,名\n"
		require.Len(t, table.Generation, 16)
		place := "experiment/breast_hetero_guest." + table.Generation
		for i := range 4 {
			got := object(t, blobs, fmt.Sprintf("%s/data_%d", place, i))
			require.Equal(t, "y,id,x0,名\n"+want[i], got)
			bytes += int64(len(got))
			all += want[i]
		}
		raw := object(t, blobs, place+"/metadata")
		require.Equal(t, bytes+int64(len(raw)), table.Bytes)
		require.Equal(t, all, whole(t, d, "experiment", "breast_hetero_guest"))

		m, err := d.Metadata(ctx, "experiment", "breast_hetero_guest")
		require.NoError(t, err)
		require.Equal(t, table.Columns, m.ColumnInfo)
		require.EqualValues(t, 4, m.Count)
		require.Equal(t, float64(table.CreatedAt.Unix()), m.CreateTime)
		require.Greater(t, m.ExpireTime, m.CreateTime)
		require.Equal(t, "csv", m.FileType)
		require.Equal(t, "dense", m.DataType)
		require.Equal(t, `"`+table.Generation+`"`, string(m.Metadata["generation"]))
		delete(m.Metadata, "generation")
		require.Equal(
			t,
			map[string]json.RawMessage{
				"delimiter":     []byte(`","`),
				"label_name":    []byte(`"y"`),
				"match_id_name": []byte(`"id"`),
				"weight_name":   []byte(`null`),
				"tag":           []byte(`{"n":1.00}`),
			},
			m.Metadata,
		)

		// Fewer partitions in place of more, with a sid.
		req.Partitions, req.ExtendSID, req.Meta = 0, true, nil
		table, err = d.Ingest(ctx, req, strings.NewReader("k,v\n7,8\n9,10\n"))
		require.NoError(t, err)
		require.Equal(
			t,
			[]store.Column{
				{Name: "sid", Type: "string"},
				{Name: "k", Type: "int64"},
				{Name: "v", Type: "int64"},
			},
			table.Columns,
		)
		m, err = d.Metadata(ctx, "experiment", "breast_hetero_guest")
		require.NoError(t, err)
		require.Equal(t, `"sid"`, string(m.Metadata["sample_id_name"]))
		require.Equal(t, `"k"`, string(m.Metadata["match_id_name"]))
		g := strings.Trim(string(m.Metadata["generation"]), `"`)
		require.Equal(t, "sid,k,v\n"+g+"-1,7,8\n"+g+"-2,9,10\n",
			whole(t, d, "experiment", "breast_hetero_guest"))
		require.NotEqual(t, place, "experiment/breast_hetero_guest."+table.Generation)
		infos, err := blobs.List(ctx, place)
		require.NoError(t, err)
		require.Len(t, infos, 5, "an upload leaves the objects of the one before alone")
		require.NoError(t, d.Sweep(ctx, 0))
		infos, err = blobs.List(ctx, "")
		require.NoError(t, err)
		require.Len(t, infos, 2, "data_0 and metadata of the current generation")

		exists, err := d.Exists(ctx, "experiment", "breast_hetero_guest")
		require.NoError(t, err)
		require.True(t, exists)
		require.NoError(t, d.Delete(ctx, "experiment", "breast_hetero_guest"))
		exists, err = d.Exists(ctx, "experiment", "breast_hetero_guest")
		require.NoError(t, err)
		require.False(t, exists)
		_, err = d.Open(ctx, "experiment", "breast_hetero_guest")
		requireCode(t, bfia.CodeNotFound, err)
		require.NoError(t, d.Sweep(ctx, 0))
		infos, err = blobs.List(ctx, "")
		require.NoError(t, err)
		require.Empty(t, infos)
	})
}

func TestIngestWithoutHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ meta, want string }{
		{`{}`, "id,x0,x1\n1,2,3\n"},
		{`{"match_id_name": "k"}`, "k,x0,x1\n1,2,3\n"},
		{`{"match_id_name": "k", "label_name": "x1"}`, "k,x0,x1\n1,2,3\n"},
		{`{"header": ["y", "k", "z"], "match_id_name": "k"}`, "y,k,z\n1,2,3\n"},
		{`{"header": "y,k,z", "match_id_name": "k"}`, "y,k,z\n1,2,3\n"},
		{`{"header": null}`, "id,x0,x1\n1,2,3\n"},
		{`null`, "id,x0,x1\n1,2,3\n"},
	} {
		d, _ := folder(t)
		_, err := d.Ingest(t.Context(),
			IngestRequest{Namespace: "n", Name: "d", Meta: json.RawMessage(c.meta)},
			strings.NewReader("1,2,3\n"))
		require.NoError(t, err, c.meta)
		require.Equal(t, c.want, whole(t, d, "n", "d"))
	}
}

// An error names the field and the line, never a value. Nothing is left behind, and the older generation
// stays current.
func TestIngestRefuses(t *testing.T) {
	t.Parallel()
	good := IngestRequest{Namespace: "n", Name: "d", Head: true}
	with := func(change func(*IngestRequest)) IngestRequest {
		req := good
		change(&req)
		return req
	}
	meta := func(m string) IngestRequest {
		return with(func(r *IngestRequest) { r.Meta = json.RawMessage(m) })
	}
	for name, c := range map[string]struct {
		req  IngestRequest
		file string
		want string
	}{
		"no namespace": {with(func(r *IngestRequest) { r.Namespace = "" }), "id\n1\n",
			"namespace: is required"},
		"no name": {with(func(r *IngestRequest) { r.Name = "" }), "id\n1\n", "name: is required"},
		"path":    {with(func(r *IngestRequest) { r.Namespace = ".." }), "id\n1\n", "namespace:"},
		"slash":   {with(func(r *IngestRequest) { r.Name = "a/b" }), "id\n1\n", "name:"},
		"hash":    {with(func(r *IngestRequest) { r.Name = "a#b" }), "id\n1\n", "name:"},
		"partitions": {with(func(r *IngestRequest) { r.Partitions = 1025 }), "id\n1\n",
			"partitions: 1025"},
		"less partitions": {with(func(r *IngestRequest) { r.Partitions = -1 }), "id\n1\n",
			"partitions: -1"},
		"meta":           {meta(`[]`), "id\n1\n", "meta: is not a JSON object"},
		"delimiter type": {meta(`{"delimiter": 1}`), "id\n1\n", "meta.delimiter: is not a string"},
		"long delimiter": {meta(`{"delimiter": ",,"}`), "id\n1\n",
			"meta.delimiter: must be one character"},
		"quote delimiter": {meta(`{"delimiter": "\""}`), "id\n1\n",
			"meta.delimiter: must be one character"},
		"header type": {meta(`{"header": 1}`), "id\n1\n", "meta.header:"},
		"id column": {meta(`{"match_id_name": "id"}`), "a,b\n1,2\n",
			`meta.match_id_name: column "id" is not in the header (columns: a, b)`},
		"label column": {meta(`{"label_name": "y"}`), "a,b\n1,2\n",
			`meta.label_name: column "y" is not in the header (columns: a, b)`},
		"label is id": {meta(`{"label_name": "a"}`), "a,b\n1,2\n",
			`meta.label_name: column "a" is the id`},
		"empty":          {good, "", "file: is empty"},
		"bom only":       {good, "\uFEFF", "file: is empty"},
		"lines only":     {good, "\n\r\n\n", "file: is empty"},
		"header only":    {good, "id,x\n", "file: has a header and no rows"},
		"same names":     {good, "id,x,y,x\n1,2,3,4\n", `line 1: columns 2 and 4 have the same name, "x"`},
		"no column name": {good, "id,,y\n1,2,3\n", "line 1: column 2 has no name"},
		"name in two lines": {good, "id,\"a\nb\"\n1,2\n",
			"line 1: the name of column 2 contains a control character"},
		"tabs": {good, "id\tx\n1\t2\n", `line 1: the name of column 1 contains a tab; ` +
			"if tabs separate the columns, set the delimiter to \\t"},
		"sid": {with(func(r *IngestRequest) { r.ExtendSID = true }), "id,sid\n1,2\n",
			`extend_sid: the file has a column "sid" already`},
		"short row":     {good, "id,x\n1,2\nSECRET\n", "line 3: 1 fields, the header has 2"},
		"long row":      {good, "id,x\n1,2\nSECRET,2,3\n", "line 3: 3 fields, the header has 2"},
		"rows in lines": {good, "id,x\n1,\"a\nb\nc\"\nSECRET\n", "line 5: 1 fields"},
		"rows, no header": {with(func(r *IngestRequest) { r.Head = false }), "1,2\n\nSECRET\n",
			"line 3: 1 fields, line 1 has 2"},
		"names, no header": {with(func(r *IngestRequest) {
			r.Head = false
			r.Meta = json.RawMessage(`{"header": "a"}`)
		}), "SECRET,2\n", "line 1: 2 fields, meta.header names 1"},
		"bare quote": {good, "id,x\n1,SEC\"RET\n", "line 2: a quote is in a field that is not quoted"},
		"open quote": {good, "id,x\n1,2\n3,\"SECRET\n\n\n", "line 3"},
		"after quote": {good, "id,x\n1,\"SEC\"RET\n",
			"line 2: a quote is not closed, or something follows it"},
		"not utf-8": {good, "id,x\n1,2\n3,SECRET\xff\n",
			"line 3: field 2 is not UTF-8; give the file's encoding, such as gbk"},
		"utf-16":            {good, "\xff\xfei\x00d\x00\n\x00", "file: has a header and no rows"},
		"nul":               {good, "id,x\n1,SECRET\x00\n", "line 2: field 2 contains a NUL"},
		"nul in the header": {good, "id,x\x00\n1,2\n", "line 1: field 2 contains a NUL"},
		"no id":             {good, "id,x\n1,2\n,SECRET\n", `line 3: the id (column "id") is empty`},
		"same id": {good, "id,x\n1,2\nSECRET,3\n2,2\nSECRET,4\n1,1\nSECRET,5\n",
			`line 5: has the same id (column "id") as line 3; remove one of them, ` +
				`or upload with extend_sid, which permits repeated ids`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			d, blobs := folder(t)
			_, err := d.Ingest(ctx, good, strings.NewReader("id,x\nold,1\n"))
			require.NoError(t, err)
			_, err = d.Ingest(ctx, c.req, strings.NewReader(c.file))
			requireCode(t, bfia.CodeBadRequest, err)
			require.Contains(t, bfia.MessageOf(err), c.want)
			require.NotContains(t, err.Error(), "SEC")
			require.NotContains(t, err.Error(), "RET")
			require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))
			root, err := blobs.Path("n")
			require.NoError(t, err)
			stages, err := os.ReadDir(filepath.Join(filepath.Dir(root), ".tmp"))
			require.NoError(t, err)
			require.Empty(t, stages, "nothing is left behind")
			objects, err := blobs.List(ctx, "")
			require.NoError(t, err)
			require.Len(t, objects, 2)
		})
	}
}

func TestIngestRefusesAnEndlessRow(t *testing.T) {
	t.Parallel()
	d, _ := folder(t)
	_, err := d.Ingest(t.Context(), IngestRequest{Namespace: "n", Name: "d", Head: true},
		io.MultiReader(strings.NewReader("id,x\n1,2\n3,\""), &rows{left: 1 << 40, cols: 3}))
	requireCode(t, bfia.CodeTooLarge, err)
	require.ErrorContains(t, err, "the row that begins 9 bytes into the file is longer than 8 MiB")
}

func TestIngestOfABrokenUpload(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *Datasets, blobs blob.Store) {
		ctx := t.Context()
		req := IngestRequest{Namespace: "n", Name: "d", Head: true}
		_, err := d.Ingest(ctx, req, strings.NewReader("id,x\nold,1\n"))
		require.NoError(t, err)
		broken := errors.New("connection lost")
		_, err = d.Ingest(ctx, req,
			io.MultiReader(strings.NewReader("id,x\n1,2\n3,4"), iotest.ErrReader(broken)))
		require.ErrorIs(t, err, broken)
		_, err = d.Ingest(ctx, req,
			io.MultiReader(strings.NewReader("id,x\n1,2\n3,\"4"), iotest.ErrReader(io.ErrUnexpectedEOF)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		gone, cancel := context.WithCancel(ctx)
		_, err = d.Ingest(
			gone,
			req,
			io.MultiReader(strings.NewReader("id,x\n1,2\n"),
				readFunc(func([]byte) (int, error) { cancel(); return 0, nil })),
		)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))
		objects, err := blobs.List(ctx, "")
		require.NoError(t, err)
		require.Len(t, objects, 2, "nothing is left behind")
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A container's dataset is read byte for byte: one partition, minimal metadata, a last line without an end.
func TestOpenOfContainersDatasets(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *Datasets, blobs blob.Store) {
		ctx := t.Context()
		put := func(key, v string) { require.NoError(t, blobs.Put(ctx, "n/d/"+key, strings.NewReader(v))) }
		put("metadata", `{"partitions": 1, "create_time": 1700000000.123, "file_type": "", "metadata": null}`)
		put("data_0", "id,x\n1,2")
		require.Equal(t, "id,x\n1,2", whole(t, d, "n", "d"))
		put("metadata", `{"partitions": 3, "create_time": 1700000000.123}`)
		put("data_1", "id,x\r\n3,4\r\n")
		put("data_2", "id,x")
		require.Equal(t, "id,x\n1,2\n3,4\r\n", whole(t, d, "n", "d"))
		put("data_2", "other,x\n5,6\n")
		r, err := d.Open(ctx, "n", "d")
		require.NoError(t, err)
		_, err = io.ReadAll(r)
		require.ErrorContains(t, err, "its header is not that of data_0")
		require.NoError(t, r.Close())
		require.NoError(t, blobs.Delete(ctx, "n/d/data_0"))
		_, err = d.Open(ctx, "n", "d")
		requireCode(t, bfia.CodeNotFound, err)
		for bad, why := range map[string]string{`{"partitions": 0}`: "has partitions 0, not 1 to",
			`{"partitions": 1.5}`: "has partitions 1.5", `{"partitions": "1"}`: "can't be parsed",
			`{"num_partitions": 1}`: "has no partitions, and the object n/d/data_0 does not exist",
			`{`:                     "can't be parsed", `[]`: "can't be parsed", `{"file_type": 1}`: "can't be parsed",
			`{"partitions": 1000000000}`: "has partitions 1e+09", "": "is empty"} {
			put("metadata", bad)
			_, err = d.Open(ctx, "n", "d")
			requireCode(t, bfia.CodeConflict, err)
			require.ErrorContains(t, err, "the object n/d/metadata, as the algorithm wrote it, "+why)
		}
		put("data_0", "id,x\n1,2\n")
		put("data_2", "id,x\n5,6\n")
		for _, good := range []string{`{}`, `null`, `{"partitions": null}`, `{"partitions": 3.0}`,
			`{"count": "3", "metadata": [], "column_info": 1}`} {
			put("metadata", good)
			require.Equal(t, "id,x\n1,2\n3,4\r\n5,6\n", whole(t, d, "n", "d"), good)
		}
		require.NoError(t, blobs.Delete(ctx, "n/d/data_1"))
		put("metadata", `{}`)
		require.Equal(t, "id,x\n1,2\n", whole(t, d, "n", "d"), "the objects up to the first that is missing")
		put("metadata", `{"partitions": 1, "file_type": "tar.gz"}`)
		_, err = d.Open(ctx, "n", "d")
		requireCode(t, bfia.CodeBadRequest, err)
	})
}

func TestManyPartitions(t *testing.T) {
	t.Parallel()
	d, blobs := folder(t)
	table, err := d.Ingest(t.Context(),
		IngestRequest{Namespace: "n", Name: "d", Head: true, Partitions: MaxPartitions, ExtendSID: true},
		&rows{left: 3 << 20, cols: 4})
	require.NoError(t, err)
	infos, err := blobs.List(t.Context(), "n/d."+table.Generation)
	require.NoError(t, err)
	require.Len(t, infos, MaxPartitions+1)
	var bytes int64
	for _, i := range infos {
		bytes += i.Size
	}
	require.Equal(t, bytes, table.Bytes)
	got, err := csv.NewReader(strings.NewReader(whole(t, d, "n", "d"))).ReadAll()
	require.NoError(t, err)
	require.EqualValues(t, table.Rows+1, len(got))
	seen := make(map[string]bool)
	for _, row := range got[1:] {
		require.False(t, seen[row[0]] || seen[row[1]])
		seen[row[0]], seen[row[1]] = true, true
	}
}

func TestColumnTypes(t *testing.T) {
	t.Parallel()
	for want, values := range map[colType][]string{
		typeInt: {"0", "-0", "7", "-7", "9223372036854775807", "-9223372036854775808",
			"123456789012345678"},
		typeFloat: {"0.5", "-0.5", "+0.5", ".5", "5.", "1e5", "1E-5", "1.5e+300", "-1e0", "NaN", "nan",
			"0.0001", "123456789012345678901234567890.5"},
		typeString: {"a", "-", "+", ".", "-.", "+7", "007", "-007", "00.5", "1e", "1e+", "1e5x", "1e400",
			"0x10", "1_000", "inf", "Infinity", "9223372036854775808", "1.2.3", " 1", "1 ", "１", "true",
			"1,5", "e5"},
	} {
		for _, v := range values {
			require.Equal(t, want, typeOf(v), "%q", v)
		}
	}
	require.Equal(t, typeFloat, typeInt.with("0.5"))
	require.Equal(t, typeFloat, typeFloat.with("1"))
	require.Equal(t, typeString, typeString.with("1"))
}

// With a low limit the ids go to disk, and a bucket is read in shares. The result is the same.
func TestIDs(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{3, 100, 5000, 1 << 20} {
		for _, double := range [][]int64{nil, {9999, 1}, {10000, 17, 9999}, {5000, 4999, 10000}} {
			s := newIDs(t.TempDir())
			s.limit = limit
			n := int64(10000)
			if limit == 3 {
				n = 500
			}
			same := make(map[int64]bool)
			for i, line := range double {
				double[i] = min(line, n-int64(i))
				same[double[i]] = true
			}
			wantFirst, wantSecond := int64(0), int64(0)
			for line := int64(1); line <= n; line++ {
				id := fmt.Sprint("id", line)
				if same[line] {
					id = "same"
					switch {
					case wantFirst == 0:
						wantFirst = line
					case wantSecond == 0:
						wantSecond = line
					}
				}
				require.NoError(t, s.add(id, line))
			}
			if wantSecond == 0 {
				wantFirst = 0
			}
			first, second, err := s.duplicate(t.Context())
			require.NoError(t, err)
			require.Equal(t, [2]int64{wantFirst, wantSecond}, [2]int64{first, second}, "limit %d, double %v",
				limit, double)
		}
	}
}
