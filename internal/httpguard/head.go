package httpguard

import (
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// chunked is the length of a body in chunks.
const chunked = -1

// checkHead checks the lines of a request's head and returns the length of the body.
func checkHead(lines []string) (int64, *Error) {
	version, fault := checkRequestLine(lines[0])
	if fault != nil {
		return 0, fault
	}

	var hosts, lengths, codings []string
	for _, line := range lines[1:] {
		name, value, fault := checkField(line)
		if fault != nil {
			return 0, fault
		}
		switch strings.ToLower(name) {
		case "host":
			hosts = append(hosts, value)
		case "content-length":
			lengths = append(lengths, value)
		case "transfer-encoding":
			codings = append(codings, value)
		}
	}

	switch {
	case len(hosts) > 1:
		return 0, refuse("header Host: is given %d times", len(hosts))
	case len(hosts) == 0 && version == "HTTP/1.1":
		return 0, refuse("header Host: is required")
	case len(hosts) == 1 && !httpguts.ValidHostHeader(hosts[0]):
		return 0, refuse("header Host: %.100q is not a host", hosts[0])
	}
	return bodyLength(version, lengths, codings)
}

// checkRequestLine checks the first line of a request and returns its version.
func checkRequestLine(line string) (version string, fault *Error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !httpguts.ValidHeaderFieldName(parts[0]) || parts[1] == "" {
		return "", refuse("the request does not begin with a method, a path and a version")
	}
	for _, c := range []byte(parts[1]) {
		if c < ' ' || c == 0x7f {
			return "", refuse("the path contains a control character")
		}
	}

	version = parts[2]
	switch {
	case version == "HTTP/1.1", version == "HTTP/1.0":
		return version, nil
	case len(version) == len("HTTP/1.1") && strings.HasPrefix(version, "HTTP/"):
		return "", refuse("%.20q is not supported, must be HTTP/1.1", version)
	}
	return "", refuse("%.20q is not a version of HTTP", version)
}

// checkField checks a header or trailer field (RFC 9112, 5).
func checkField(line string) (name, value string, fault *Error) {
	if line[0] == ' ' || line[0] == '\t' {
		return "", "", refuse("a header continues on the next line")
	}
	name, value, found := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	switch {
	case !found:
		return "", "", refuse("a header has no colon")
	case !httpguts.ValidHeaderFieldName(name):
		return "", "", refuse("%.100q is not a name of a header", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return "", "", refuse("header %.100s: contains a control character", name)
	}
	return name, value, nil
}

// bodyLength returns the length of a request's body (RFC 9112, 6.3).
func bodyLength(version string, lengths, codings []string) (int64, *Error) {
	if len(codings) > 0 {
		all := strings.ToLower(strings.Join(codings, ", "))
		last := strings.TrimSpace(all[strings.LastIndexByte(all, ',')+1:])
		switch {
		case len(lengths) > 0:
			return 0, refuse("the headers Content-Length and Transfer-Encoding are both given")
		case version == "HTTP/1.0":
			return 0, refuse("header Transfer-Encoding: is not a part of HTTP/1.0")
		case last != "chunked":
			return 0, refuse("header Transfer-Encoding: the last coding must be chunked")
		case all != "chunked":
			return 0, refuse("header Transfer-Encoding: no other coding than chunked is supported")
		}
		return chunked, nil
	}

	var length int64
	for i, text := range lengths {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return 0, refuse("header Content-Length: %.40q is not a number of bytes", text)
		}
		if i > 0 && int64(n) != length {
			return 0, refuse("header Content-Length: is given twice, as %d and %d", length, n)
		}
		length = int64(n)
	}
	return length, nil
}

// checkTrailers checks the fields behind the last chunk. They can't change how the message is framed or
// routed.
func checkTrailers(lines []string) *Error {
	for _, line := range lines {
		name, _, fault := checkField(line)
		if fault != nil {
			return fault
		}
		switch strings.ToLower(name) {
		case "host", "content-length", "transfer-encoding":
			return refuse("header %s: can't be a trailer", name)
		}
	}
	return nil
}
