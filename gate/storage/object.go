package storage

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// maxDocument bounds the body of a request that deletes many objects.
const maxDocument = 2 << 20

// The parameters of requests for objects that are passed on. Others are refused, but for those that mean
// nothing or belong to a presigned URL.
var (
	objectParameters = []string{"uploadId", "uploads", "partNumber", "max-parts", "part-number-marker",
		"encoding-type", "response-content-type", "response-content-disposition",
		"response-content-encoding", "response-content-language", "response-cache-control",
		"response-expires"}
	ignoredParameters = []string{"x-id", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
		"X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Content-Sha256"}
)

// The headers of requests that are passed on, by name or by the beginning of the name.
var (
	objectHeaders = []string{"Content-Type", "Content-Md5", "Cache-Control", "Content-Disposition",
		"Content-Language", "Expires", "Range", "If-Match", "If-None-Match", "If-Modified-Since",
		"If-Unmodified-Since", "X-Amz-Checksum-Mode", "X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type",
		"X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Mp-Object-Size", "X-Amz-Metadata-Directive"}
	objectHeaderPrefixes = []string{"X-Amz-Meta-", "X-Amz-Checksum-Crc", "X-Amz-Checksum-Sha"}
	// refusedHeaders would give an object rights or keys of which the party does not know.
	refusedHeaders = []string{"X-Amz-Acl", "X-Amz-Grant-Read", "X-Amz-Grant-Full-Control",
		"X-Amz-Grant-Read-Acp", "X-Amz-Grant-Write-Acp", "X-Amz-Tagging", "X-Amz-Object-Lock-Mode",
		"X-Amz-Object-Lock-Legal-Hold", "X-Amz-Website-Redirect-Location", "X-Amz-Storage-Class",
		"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Customer-Algorithm"}
)

// object serves a request for one object.
func (c *call) object() error {
	for name := range c.query {
		if !slices.Contains(objectParameters, name) && !slices.Contains(ignoredParameters, name) {
			return notImplemented("the parameter %.50q is not supported", name)
		}
	}
	for _, name := range refusedHeaders {
		if value := c.r.Header.Get(name); value != "" && value != "private" && value != "STANDARD" {
			return notImplemented("header %s: is not supported", name)
		}
	}
	upload := c.asks("uploadId") || c.asks("uploads")
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		if upload && !c.grant.mayWrite(c.key) || !c.grant.mayRead(c.key) {
			return c.denied("read")
		}
	case http.MethodPut, http.MethodDelete:
		if !c.grant.mayWrite(c.key) {
			return c.denied("write")
		}
	case http.MethodPost:
		if !upload {
			return notImplemented("POST of an object is not supported")
		}
		if !c.grant.mayWrite(c.key) {
			return c.denied("write")
		}
	default:
		return refusef(http.StatusMethodNotAllowed, "MethodNotAllowed", "%s is not supported", c.r.Method)
	}
	if source := c.r.Header.Get("X-Amz-Copy-Source"); source != "" {
		return c.copyObject(source)
	}
	return c.pass()
}

func (c *call) denied(what string) error {
	return accessDenied(
		"the run may not %s the object %.300q: a container reads its inputs and outputs, and "+
			"writes its outputs",
		what,
		c.key,
	)
}

// copyObject copies an object that the run may read.
func (c *call) copyObject(source string) error {
	if c.asks("uploadId") {
		return notImplemented("a part of an upload can't be copied")
	}
	source, err := url.PathUnescape(strings.TrimPrefix(source, "/"))
	if err != nil {
		return invalidRequest("header X-Amz-Copy-Source: is not encoded as a path")
	}
	bucket, key, _ := strings.Cut(source, "/")
	if bucket != c.cfg.Bucket.Bucket || !c.grant.mayRead(key) || c.r.Method != http.MethodPut {
		return accessDenied("the run may not read the object that header X-Amz-Copy-Source names")
	}
	done, err := c.client.CopyObject(c.r.Context(), minio.CopyDestOptions{Bucket: bucket, Object: c.key},
		minio.CopySrcOptions{Bucket: bucket, Object: key})
	if err != nil {
		return upstreamFault("copy", err)
	}
	writeXML(c.w, c.r, http.StatusOK, struct {
		XMLName      xml.Name `xml:"CopyObjectResult"`
		LastModified string
		ETag         string
	}{LastModified: s3Time(done.LastModified), ETag: `"` + done.ETag + `"`})
	return nil
}

// deleteMany serves a request that deletes several objects.
func (c *call) deleteMany() error {
	var request struct {
		Quiet   bool
		Objects []struct{ Key string } `xml:"Object"`
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	if err := xml.NewDecoder(io.LimitReader(body, maxDocument)).Decode(&request); err != nil {
		if f, ok := errors.AsType[*fault](err); ok {
			return f
		}
		return refusef(http.StatusBadRequest, "MalformedXML", "the list of objects can't be parsed")
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(body, maxDocument)); err != nil { // checks its signature
		return err
	}
	if len(request.Objects) > 1000 {
		return refusef(http.StatusBadRequest, "MalformedXML", "more than 1000 objects")
	}
	type failure struct{ Key, Code, Message string }
	var result struct {
		XMLName xml.Name `xml:"DeleteResult"`
		Deleted []struct{ Key string }
		Errors  []failure `xml:"Error"`
	}
	for _, object := range request.Objects {
		err := error(accessDenied("the run may not write it"))
		if c.grant.mayWrite(object.Key) {
			err = c.client.RemoveObject(c.r.Context(), c.cfg.Bucket.Bucket, object.Key,
				minio.RemoveObjectOptions{})
			if err != nil {
				err = upstreamFault("delete", err)
			}
		}
		if err != nil {
			f := faultOf(err)
			result.Errors = append(result.Errors, failure{object.Key, f.code, f.message})
		} else if !request.Quiet {
			result.Deleted = append(result.Deleted, struct{ Key string }{object.Key})
		}
	}
	writeXML(c.w, c.r, http.StatusOK, result)
	return nil
}

// upstreamFault returns the fault that the server reported.
func upstreamFault(doing string, err error) error {
	answer := minio.ToErrorResponse(err)
	if answer.Code == "" || answer.StatusCode < 400 || answer.StatusCode >= 500 ||
		answer.StatusCode == http.StatusForbidden { // the party's own credentials were refused
		return fmt.Errorf("failed to %s an object of the storage: %w", doing, err)
	}
	return refusef(answer.StatusCode, answer.Code, "%s", answer.Message)
}

func s3Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// passed is a request that is passed on to the party's server.
type passed struct {
	*call
	body   io.Reader
	length int64
	hash   string // of the body, which the server checks; "": unknown
}

type passedKey struct{}

// body returns the body that a request carries, to be read and checked as it arrives.
func (c *call) body() (io.Reader, error) {
	switch form := c.r.Header.Get(headerContentHash); form {
	case signedChunks, signedChunksTrailer, unsignedChunksTrailer:
		return newChunks(c.r, c.signed, c.chunkKey, form)
	case "":
		if !c.signed.presigned {
			return nil, refusef(http.StatusBadRequest, "MissingContentSHA256",
				"header %s: is required", headerContentHash)
		}
		return c.r.Body, nil
	case unsignedPayload:
		return c.r.Body, nil
	default:
		sum := &summed{in: c.r.Body, sum: sha256.New(), want: form}
		return sum, nil
	}
}

// pass passes the request on, signed by the party.
func (c *call) pass() error {
	p := &passed{call: c, length: c.r.ContentLength}
	switch form := c.r.Header.Get(headerContentHash); {
	case c.r.Method == http.MethodGet || c.r.Method == http.MethodHead || c.r.Method == http.MethodDelete:
		p.length, p.hash = 0, hexSHA256("")
	default:
		body, err := c.body()
		if err != nil {
			return err
		}
		switch b := body.(type) {
		case *chunks:
			p.body, p.length = &held{in: b}, b.size
		case *summed: // the server checks the hash
			p.body, p.hash = c.r.Body, form
		default:
			p.body = body
		}
		if p.length < 0 {
			return refusef(http.StatusLengthRequired, "MissingContentLength", "the body has no length")
		}
		if p.length == 0 { // net/http would not read it
			if _, err := io.Copy(io.Discard, io.LimitReader(body, 1)); err != nil {
				return err
			}
			p.body, p.hash = nil, hexSHA256("")
		}
	}
	ctx := context.WithValue(c.r.Context(), passedKey{}, p)
	c.proxy.ServeHTTP(c.w, c.r.WithContext(ctx))
	return nil
}

// rewrite makes the request that the party's server gets.
func rewrite(pr *httputil.ProxyRequest) {
	p := pr.In.Context().Value(passedKey{}).(*passed)
	bucket := p.cfg.Bucket
	out := pr.Out
	query := url.Values{}
	for name, values := range p.query {
		if slices.Contains(objectParameters, name) {
			query[name] = values
		}
	}
	target := "/" + bucket.Bucket + "/" + p.key
	out.URL = &url.URL{Scheme: "http", Host: bucket.Host, Path: target, RawPath: s3utils.EncodePath(target),
		RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20")}
	if bucket.Secure {
		out.URL.Scheme = "https"
	}
	out.Host = bucket.Host
	out.Header = passedHeaders(pr.In.Header)
	out.ContentLength, out.TransferEncoding, out.Body = p.length, nil, http.NoBody
	if p.body != nil {
		out.Body = io.NopCloser(bodyErrors{p.body})
	}
	switch {
	case p.hash != "":
		out.Header.Set(headerContentHash, p.hash)
	case !bucket.Secure: // a body on a line without TLS is signed
		signer.StreamingSignV4(
			out,
			bucket.User,
			bucket.Password,
			"",
			bucket.Region,
			p.length,
			time.Now().UTC(),
			hasher{sha256.New()},
		)
		return
	default:
		out.Header.Set(headerContentHash, unsignedPayload)
	}
	signed := signer.SignV4(*out, bucket.User, bucket.Password, "", bucket.Region)
	out.Header = signed.Header
}

// passedHeaders returns the headers of a request that are passed on.
func passedHeaders(in http.Header) http.Header {
	out := http.Header{}
	for name, values := range in {
		if slices.Contains(objectHeaders, name) || slices.ContainsFunc(objectHeaderPrefixes,
			func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			out[name] = values
		}
	}
	var encodings []string
	for part := range strings.SplitSeq(in.Get("Content-Encoding"), ",") {
		if part = strings.TrimSpace(part); part != "" && part != "aws-chunked" {
			encodings = append(encodings, part)
		}
	}
	if len(encodings) > 0 {
		out.Set("Content-Encoding", strings.Join(encodings, ","))
	}
	return out
}

// errBody marks an error of the container's body.
var errBody = errors.New("failed to read the body")

// bodyErrors marks the errors of a body.
type bodyErrors struct{ io.Reader }

func (b bodyErrors) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errBody, err)
	}
	return n, err
}

// summed checks the SHA-256 of a body at its end.
type summed struct {
	in   io.Reader
	sum  hash.Hash
	want string
}

// Read implements [io.Reader].
func (s *summed) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.sum.Write(p[:n])
	if err == io.EOF && fmt.Sprintf("%x", s.sum.Sum(nil)) != s.want {
		err = refusef(http.StatusBadRequest, "XAmzContentSHA256Mismatch",
			"the body does not have the hash of header %s", headerContentHash)
	}
	return n, err
}

// hasher is a hash of minio-go.
type hasher struct{ hash.Hash }

// Close does nothing.
func (hasher) Close() {}
