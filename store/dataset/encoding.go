package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"hutong/bfia"
)

// utf8Name is the encoding of files without another one.
const utf8Name = "utf-8"

// findEncoding returns the encoding of a name from the WHATWG's list, which has the names that browsers and
// iconv use, and its canonical name. "" is UTF-8.
func findEncoding(name string) (encoding.Encoding, string, error) {
	if strings.TrimSpace(name) == "" {
		return nil, utf8Name, nil
	}
	found, err := htmlindex.Get(name)
	if err != nil {
		return nil, "", bfia.Errorf(bfia.CodeBadRequest,
			"encoding: %q is not known; known are utf-8, gbk, gb18030, big5, utf-16, windows-1252, shift_jis, euc-kr "+
				"and the other names of the WHATWG's encoding standard", shorten(name))
	}
	canonical, err := htmlindex.Name(found)
	if err != nil || canonical == utf8Name {
		return nil, utf8Name, nil
	}
	return found, canonical, nil
}

// decode returns a file as UTF-8 without a byte order mark, and the name of its encoding. A byte order mark
// says more about the file than the given encoding.
func decode(r *bufio.Reader, given string) (io.Reader, string, error) {
	from, name, err := findEncoding(given)
	if err != nil {
		return nil, "", err
	}
	start, err := r.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")):
		_, err = r.Discard(3)
		return r, utf8Name, err
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		utf16 := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM)
		return transform.NewReader(r, utf16.NewDecoder()), "utf-16", nil
	case from == nil:
		return r, name, nil
	}
	return transform.NewReader(r, from.NewDecoder()), name, nil
}
