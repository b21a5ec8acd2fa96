package dataset

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hutong/bfia"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// FuzzIngest checks that any file is refused with a code, or stored with every row in its partition. It
// compares with another parse of the file.
func FuzzIngest(f *testing.F) {
	f.Add([]byte("id,x,y\n1,0.5,a\n2,1,b\n"), `{"label_name":"y"}`, true, false, 2)
	f.Add([]byte("\uFEFFid;x\r\n1;\"a;\"\"b\"\"\r\nc\"\r\n"), `{"delimiter":";","match_id_name":"id"}`, true,
		true, 3)
	f.Add([]byte("1,2\n3,4"), `{"header":["a","b"]}`, false, false, 1)
	f.Add([]byte("1\n\n1\n"), ``, false, false, 1)
	f.Add([]byte("a\r,b\n\r\r\n,x"), `{"delimiter":"，"}`, true, false, 1)
	f.Fuzz(func(t *testing.T, file []byte, rawMeta string, head, sid bool, partitions int) {
		req := IngestRequest{
			Head:       head,
			ExtendSID:  sid,
			Partitions: 1 + (partitions&0xf+0x10)&0xf,
			Meta:       json.RawMessage(rawMeta),
		}
		m, err := parseMeta(req.Meta)
		if err != nil {
			if bfia.CodeOf(err) != bfia.CodeBadRequest {
				t.Fatal(err)
			}
			return
		}
		dir := t.TempDir()
		tab := &table{meta: m, head: head, sid: sid, generation: "g"}
		size, err := fill(t.Context(), dir, tab, req, bytes.NewReader(file), time.Now())
		if err != nil {
			if code := bfia.CodeOf(err); code != bfia.CodeBadRequest && code != bfia.CodeTooLarge {
				t.Fatal(err)
			}
			if !utf8.ValidString(err.Error()) {
				t.Fatalf("%q", err)
			}
			return
		}
		if _, err := os.Stat(filepath.Join(dir, ".work")); err == nil {
			t.Fatal("the work folder is left")
		}
		cr := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\uFEFF"))))
		cr.Comma = m.delimiter
		want, err := cr.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if head {
			want = want[1:]
		}
		if int64(len(want)) != tab.rows {
			t.Fatalf("%d rows, want %d", tab.rows, len(want))
		}
		var total int64
		var got [][]string
		for i := range req.Partitions {
			part, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("data_%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			total += int64(len(part))
			header, _, _ := strings.Cut(string(part), "\n")
			names, err := csv.NewReader(strings.NewReader(header)).Read()
			if err != nil || len(names) != len(tab.columns()) {
				t.Fatalf("header %q: %v", header, err)
			}
			rows, err := csv.NewReader(bytes.NewReader(part)).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows[1:] {
				if sid {
					row = row[1:]
				}
				if partitionOf(row[tab.id], req.Partitions) != i {
					t.Fatalf("a row is in partition %d", i)
				}
				got = append(got, row)
			}
		}
		meta, err := os.ReadFile(filepath.Join(dir, metadataObject))
		if err != nil || total+int64(len(meta)) != size {
			t.Fatalf("%d bytes, want %d: %v", size, total+int64(len(meta)), err)
		}
		slices.SortFunc(got, slices.Compare)
		slices.SortFunc(want, slices.Compare)
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("rows %q, want %q", got, want)
		}
	})
}

// FuzzHeaderLine checks that two partitions are read as one file, however a container ends its lines.
func FuzzHeaderLine(f *testing.F) {
	f.Add("id,x", "1,2\n", "3,4")
	f.Add("id", "", "\r\n")
	database := storetest.Open(f, storetest.SQLite(f))
	f.Fuzz(func(t *testing.T, header, first, second string) {
		if strings.ContainsAny(header, "\r\n") {
			return
		}
		blobs, err := blob.Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "storage"))
		if err != nil {
			t.Fatal(err)
		}
		d := New(blobs, database)
		for key, v := range map[string]string{"metadata": `{"partitions":2}`, "data_0": header + "\n" + first,
			"data_1": header + "\n" + second} {
			if err := blobs.Put(t.Context(), "n/d/"+key, strings.NewReader(v)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := d.Open(t.Context(), "n", "d")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want := header + "\n" + first
		if !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if want += second; string(got) != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}
