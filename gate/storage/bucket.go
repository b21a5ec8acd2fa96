package storage

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
)

// maxKeys is the largest page of a list.
const maxKeys = 1000

// xmlns is the namespace of S3's documents. Some clients require it.
const xmlns = "http://s3.amazonaws.com/doc/2006-03-01/"

// bucket serves a request about the bucket itself.
func (c *call) bucket() error {
	switch method := c.r.Method; {
	case method == http.MethodHead:
		c.w.WriteHeader(http.StatusOK)
		return nil
	case method == http.MethodGet && c.asks("location"):
		location := c.cfg.Bucket.Region
		if location == "us-east-1" {
			location = "" // as AWS answers
		}
		writeXML(c.w, c.r, http.StatusOK, struct {
			XMLName xml.Name `xml:"LocationConstraint"`
			Xmlns   string   `xml:"xmlns,attr"`
			Text    string   `xml:",chardata"`
		}{Xmlns: xmlns, Text: location})
		return nil
	case method == http.MethodGet:
		return c.list()
	case method == http.MethodPost && c.asks("delete"):
		return c.deleteMany()
	case method == http.MethodPut && len(c.query) == 0:
		return refusef(http.StatusConflict, "BucketAlreadyOwnedByYou", "the bucket exists")
	}
	return notImplemented("%s of the bucket is not supported with these parameters", c.r.Method)
}

// listBuckets lists the only bucket.
func (c *call) listBuckets() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return notImplemented("%s is not supported without a bucket", c.r.Method)
	}
	type bucket struct{ Name, CreationDate string }
	writeXML(c.w, c.r, http.StatusOK, struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		Xmlns   string   `xml:"xmlns,attr"`
		Buckets []bucket `xml:"Buckets>Bucket"`
	}{Xmlns: xmlns, Buckets: []bucket{{c.cfg.Bucket.Bucket, "2000-01-01T00:00:00.000Z"}}})
	return nil
}

// listed is an object in a list.
type listed struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

type commonPrefix struct{ Prefix string }

// listing is the answer to a list, of version 1 or 2.
type listing struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	Xmlns       string   `xml:"xmlns,attr"`
	Name        string
	Prefix      string
	Delimiter   string `xml:",omitempty"`
	MaxKeys     int
	IsTruncated bool
	// of version 2
	KeyCount              *int   `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	StartAfter            string `xml:",omitempty"`
	// of version 1
	Marker     *string `xml:",omitempty"`
	NextMarker string  `xml:",omitempty"`

	EncodingType   string `xml:",omitempty"`
	Contents       []listed
	CommonPrefixes []commonPrefix

	last string // the last key or common prefix
}

// list lists the objects that the run may see.
func (c *call) list() error {
	for name := range c.query {
		switch name {
		case "list-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "continuation-token",
			"encoding-type", "fetch-owner", "x-id", "metadata":
		default:
			if !strings.HasPrefix(name, "X-Amz-") {
				return notImplemented("the parameter %.50q is not supported", name)
			}
		}
	}
	page, after, err := c.newListing()
	if err != nil {
		return err
	}
	visible := c.grant.visible(page.Prefix)
	if len(visible) == 0 {
		return accessDenied(
			"the run may not list objects with the prefix %.300q: list its inputs and outputs",
			page.Prefix,
		)
	}
	for _, prefix := range visible {
		if err := c.fill(page, prefix, after); err != nil {
			return err
		}
	}
	c.finish(page)
	writeXML(c.w, c.r, http.StatusOK, page)
	return nil
}

// newListing returns an empty answer, and the key after which it begins.
func (c *call) newListing() (page *listing, after string, err error) {
	page = &listing{Xmlns: xmlns, Name: c.cfg.Bucket.Bucket, Prefix: c.get("prefix"), MaxKeys: maxKeys,
		Delimiter: c.get("delimiter"), EncodingType: c.get("encoding-type")}
	if text := c.get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, "", refusef(http.StatusBadRequest, "InvalidArgument", "max-keys must be a number")
		}
		page.MaxKeys = min(n, maxKeys)
	}
	if page.EncodingType != "" && page.EncodingType != "url" {
		return nil, "", refusef(http.StatusBadRequest, "InvalidArgument", "encoding-type must be url")
	}
	if c.get("list-type") != "2" {
		after = c.get("marker")
		page.Marker = &after
		return page, after, nil
	}
	page.ContinuationToken, page.StartAfter = c.get("continuation-token"), c.get("start-after")
	after = page.StartAfter
	if page.ContinuationToken != "" {
		token, err := base64.URLEncoding.DecodeString(page.ContinuationToken)
		if err != nil {
			return nil, "", refusef(
				http.StatusBadRequest,
				"InvalidArgument",
				"the continuation token is wrong",
			)
		}
		after = string(token)
	}
	return page, after, nil
}

// fill adds the objects under a prefix that come after a key, until the page is full.
func (c *call) fill(page *listing, prefix, after string) error {
	if page.IsTruncated || page.MaxKeys == 0 {
		return nil
	}
	for object := range c.client.ListObjectsIter(c.r.Context(), c.cfg.Bucket.Bucket,
		minio.ListObjectsOptions{Prefix: prefix, Recursive: true, StartAfter: after}) {
		if object.Err != nil {
			return upstreamFault("list", object.Err)
		}
		common := ""
		if page.Delimiter != "" {
			if head, _, found := strings.Cut(object.Key[len(page.Prefix):], page.Delimiter); found {
				common = page.Prefix + head + page.Delimiter
			}
		}
		if object.Key <= after || common != "" && (common == after || common == page.last) {
			continue
		}
		if len(page.Contents)+len(page.CommonPrefixes) == page.MaxKeys {
			page.IsTruncated = true
			return nil
		}
		if common != "" {
			page.CommonPrefixes, page.last = append(page.CommonPrefixes, commonPrefix{common}), common
			continue
		}
		page.last = object.Key
		page.Contents = append(
			page.Contents,
			listed{Key: object.Key, LastModified: s3Time(object.LastModified),
				ETag: `"` + object.ETag + `"`, Size: object.Size, StorageClass: "STANDARD"},
		)
	}
	return c.r.Context().Err()
}

// finish sets the fields that depend on the content.
func (c *call) finish(page *listing) {
	if page.Marker == nil {
		count := len(page.Contents) + len(page.CommonPrefixes)
		page.KeyCount = &count
	}
	if page.IsTruncated && page.Marker == nil {
		page.NextContinuationToken = base64.URLEncoding.EncodeToString([]byte(page.last))
	}
	if page.IsTruncated && page.Marker != nil {
		page.NextMarker = page.last
	}
	if page.EncodingType == "" {
		return
	}
	for _, text := range []*string{&page.Prefix, &page.Delimiter, &page.StartAfter, &page.NextMarker} {
		*text = encodeURL(*text)
	}
	for i := range page.Contents {
		page.Contents[i].Key = encodeURL(page.Contents[i].Key)
	}
	for i := range page.CommonPrefixes {
		page.CommonPrefixes[i].Prefix = encodeURL(page.CommonPrefixes[i].Prefix)
	}
}

// encodeURL encodes a key in a list, for clients that ask for it.
func encodeURL(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "%2F", "/") }
