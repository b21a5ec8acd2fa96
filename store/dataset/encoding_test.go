package dataset

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"

	"hutong/bfia"
)

// TestIngestEncodings checks that files in other encodings become the same dataset.
func TestIngestEncodings(t *testing.T) {
	t.Parallel()
	const text = "id,姓名\n1,张三\n2,李四\n"
	gbk, err := simplifiedchinese.GBK.NewEncoder().String(text)
	require.NoError(t, err)
	big5, err := traditionalchinese.Big5.NewEncoder().String("id,姓名\n1,張三\n")
	require.NoError(t, err)
	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(text)
	require.NoError(t, err)
	utf16be, err := unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewEncoder().String(text)
	require.NoError(t, err)
	long := "id,姓名\n" + strings.Repeat("长", 3000) + "1,张三\n"
	longGBK, err := simplifiedchinese.GBK.NewEncoder().String(long)
	require.NoError(t, err)
	d, _ := folder(t)
	for name, c := range map[string]struct{ encoding, file, want string }{
		"utf-8":                  {"", text, text},
		"UTF-8 by name":          {"UTF-8", text, text},
		"gbk":                    {"gbk", gbk, text},
		"GB2312":                 {"GB2312", gbk, text},
		"gb18030":                {"gb18030", gbk, text},
		"big5":                   {"big5", big5, "id,姓名\n1,張三\n"},
		"utf-16 with mark":       {"", utf16, text},
		"utf-16 with both":       {"utf-16", utf16, text},
		"utf-16be":               {"utf-16be", utf16be, text},
		"mark of utf-8 over gbk": {"gbk", "\uFEFF" + text, text},
		"across buffers":         {"gbk", longGBK, long},
	} {
		req := IngestRequest{Namespace: "n", Name: "t", Head: true, Encoding: c.encoding}
		_, err := d.Ingest(t.Context(), req, strings.NewReader(c.file))
		require.NoError(t, err, name)
		require.Equal(t, c.want, whole(t, d, "n", "t"), name)
	}

	for _, c := range []struct{ encoding, file, want string }{
		{"", gbk,
			"line 1: field 2 is not UTF-8; give the file's encoding, such as gbk (encoding, or --encoding gbk)"},
		{"gbk", "id,x\n1,2\n3,\xff\xff\n", "line 3: field 2 is not GBK"},
		{"gkb", gbk, `encoding: "gkb" is not known; known are utf-8, gbk`},
	} {
		_, err := d.Ingest(t.Context(), IngestRequest{Namespace: "n", Name: "t", Head: true,
			Encoding: c.encoding},
			strings.NewReader(c.file))
		requireCode(t, bfia.CodeBadRequest, err)
		require.ErrorContains(t, err, c.want)
	}
}

// TestIngestTabs writes the delimiter as a shell does.
func TestIngestTabs(t *testing.T) {
	t.Parallel()
	d, _ := folder(t)
	for _, delimiter := range []string{"\t", `\t`} {
		meta, err := json.Marshal(map[string]string{"delimiter": delimiter})
		require.NoError(t, err)
		_, err = d.Ingest(t.Context(), IngestRequest{Namespace: "n", Name: "t", Head: true, Meta: meta},
			strings.NewReader("id\tx\n1\t2\n"))
		require.NoError(t, err)
		require.Equal(t, "id,x\n1,2\n", whole(t, d, "n", "t"))
	}
}
