package storage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	// timeFormat and dateFormat are those of AWS Signature Version 4.
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"
	// maxSkew is by how much the clocks of a container and of this machine may differ.
	maxSkew = 15 * time.Minute
	// maxExpires is the longest life of a presigned URL.
	maxExpires = 7 * 24 * time.Hour

	headerContentHash = "X-Amz-Content-Sha256"
	headerDate        = "X-Amz-Date"
	unsignedPayload   = "UNSIGNED-PAYLOAD"
)

// IsSigned reports whether a request has a signature of AWS Signature Version 4. It does not check it.
func IsSigned(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), algorithm) ||
		strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
}

// signature is the signature of a request, as its client claims it.
type signature struct {
	user      string // the access key
	date      string // of the scope
	region    string
	headers   []string // the names of the signed headers, in lower case
	value     string   // hexadecimal
	time      time.Time
	expires   time.Duration // of a presigned URL; 0 for a signature in the header
	presigned bool
}

// scope returns what a signing key is for.
func (s *signature) scope() string { return s.date + "/" + s.region + "/s3/aws4_request" }

// parseSignature reads the signature of a request.
func parseSignature(r *http.Request) (*signature, error) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		return parseHeader(r, auth)
	}
	query := r.URL.Query()
	if query.Get("X-Amz-Algorithm") != algorithm {
		return nil, accessDenied("the request is not signed with %s", algorithm)
	}
	s := &signature{presigned: true, value: query.Get("X-Amz-Signature"),
		headers: strings.Split(query.Get("X-Amz-SignedHeaders"), ";")}
	seconds, err := strconv.ParseInt(query.Get("X-Amz-Expires"), 10, 32)
	if err != nil || seconds <= 0 || seconds > int64(maxExpires/time.Second) {
		return nil, refusef(http.StatusBadRequest, "AuthorizationQueryParametersError",
			"X-Amz-Expires must be a number of seconds up to 604800")
	}
	s.expires = time.Duration(seconds) * time.Second
	return s, s.complete(query.Get("X-Amz-Credential"), query.Get(headerDate))
}

// parseHeader reads a signature in the header Authorization.
func parseHeader(r *http.Request, auth string) (*signature, error) {
	fields, ok := strings.CutPrefix(auth, algorithm)
	if !ok {
		return nil, accessDenied("the request is not signed with %s", algorithm)
	}
	s, credential := &signature{}, ""
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			s.headers = strings.Split(value, ";")
		case "Signature":
			s.value = value
		}
	}
	return s, s.complete(credential, r.Header.Get(headerDate))
}

// complete reads the fields that both forms of a signature have.
func (s *signature) complete(credential, at string) (err error) {
	malformed := refusef(http.StatusBadRequest, "AuthorizationHeaderMalformed",
		"the signature needs a credential of the form USER/DATE/REGION/s3/aws4_request, signed headers with "+
			"host, and X-Amz-Date")
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[0] == "" || parts[3] != "s3" || parts[4] != "aws4_request" ||
		!slices.Contains(s.headers, "host") || len(s.headers) > 100 {
		return malformed
	}
	s.user, s.date, s.region = parts[0], parts[1], parts[2]
	if s.time, err = time.Parse(timeFormat, at); err != nil || s.time.Format(dateFormat) != s.date {
		return malformed
	}
	return nil
}

// checkTime refuses a signature that is too old, or of the future.
func (s *signature) checkTime(now time.Time) error {
	age := now.Sub(s.time)
	switch {
	case age < -maxSkew, !s.presigned && age > maxSkew:
		return refusef(http.StatusForbidden, "RequestTimeTooSkewed",
			"the clocks of the container and of its party differ by more than %s", maxSkew)
	case s.presigned && age > s.expires:
		return accessDenied("the presigned URL has expired")
	}
	return nil
}

// check compares the signature with that of a request under a password. It returns the signing key, with
// which the chunks of a body may be signed.
func (s *signature) check(r *http.Request, password string) (key []byte, err error) {
	canonical, err := s.canonicalRequest(r)
	if err != nil {
		return nil, err
	}
	key = signingKey(password, s.date, s.region)
	want := hexHMAC(key, algorithm+"\n"+s.time.Format(timeFormat)+"\n"+s.scope()+"\n"+hexSHA256(canonical))
	if !hmac.Equal([]byte(want), []byte(s.value)) {
		return nil, wrongSignature(
			"the signature is wrong: use the user and the password of system.storage, " +
				"and do not change a request after it is signed",
		)
	}
	return key, nil
}

// canonicalRequest returns a request in the form in which it is signed.
func (s *signature) canonicalRequest(r *http.Request) (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", invalidRequest("the query can't be parsed")
	}
	query.Del("X-Amz-Signature")

	var text strings.Builder
	text.WriteString(r.Method + "\n" + s3utils.EncodePath(r.URL.Path) + "\n" +
		strings.ReplaceAll(query.Encode(), "+", "%20") + "\n")
	for _, name := range s.headers {
		value, err := signedValue(r, name)
		if err != nil {
			return "", err
		}
		text.WriteString(name + ":" + value + "\n")
	}
	hash := r.Header.Get(headerContentHash)
	if s.presigned && hash == "" {
		hash = unsignedPayload
	}
	text.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + hash)
	return text.String(), nil
}

// signedValue returns the value of a signed header. net/http removes some of them from the headers.
func signedValue(r *http.Request, name string) (string, error) {
	switch name {
	case "host":
		return r.Host, nil
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10), nil
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ","), nil
	}
	values := r.Header.Values(name)
	if len(values) == 0 {
		return "", wrongSignature("header %.100s is signed, and missing", name)
	}
	trimmed := make([]string, len(values))
	for i, value := range values {
		trimmed[i] = strings.Join(strings.Fields(value), " ")
	}
	return strings.Join(trimmed, ","), nil
}

func signingKey(password, date, region string) []byte {
	key := sumHMAC([]byte("AWS4"+password), date)
	for _, part := range []string{region, "s3", "aws4_request"} {
		key = sumHMAC(key, part)
	}
	return key
}

func sumHMAC(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func hexHMAC(key []byte, text string) string { return hex.EncodeToString(sumHMAC(key, text)) }

func hexSHA256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
