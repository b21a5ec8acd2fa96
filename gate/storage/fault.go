package storage

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
)

// fault is an error in the form of S3.
type fault struct {
	status  int
	code    string
	message string
}

func (f *fault) Error() string { return f.code + ": " + f.message }

func refusef(status int, code, format string, args ...any) *fault {
	return &fault{status, code, fmt.Sprintf(format, args...)}
}

func accessDenied(format string, args ...any) *fault {
	return refusef(http.StatusForbidden, "AccessDenied", format, args...)
}

func wrongSignature(format string, args ...any) *fault {
	return refusef(http.StatusForbidden, "SignatureDoesNotMatch", format, args...)
}

func notImplemented(format string, args ...any) *fault {
	return refusef(http.StatusNotImplemented, "NotImplemented", format, args...)
}

func invalidRequest(format string, args ...any) *fault {
	return refusef(http.StatusBadRequest, "InvalidRequest", format, args...)
}

// unavailable is the answer if the party itself fails. Clients of S3 try again.
func unavailable(format string, args ...any) *fault {
	return refusef(http.StatusServiceUnavailable, "ServiceUnavailable", format, args...)
}

// faultOf returns the fault in an error's chain. Any other error becomes ServiceUnavailable without its text.
func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	return unavailable("the storage of the party does not answer; try again")
}

// writeFault answers with an error. HEAD has no body.
func writeFault(w http.ResponseWriter, r *http.Request, f *fault) {
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	writeXML(w, r, f.status, struct {
		XMLName  xml.Name `xml:"Error"`
		Code     string
		Message  string
		Resource string
	}{Code: f.code, Message: f.message, Resource: r.URL.Path})
}

// writeXML answers with a document.
func writeXML(w http.ResponseWriter, r *http.Request, status int, document any) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	text, err := xml.Marshal(document)
	if err != nil {
		return // the documents of this package can be encoded
	}
	_, _ = w.Write(append([]byte(xml.Header), text...))
}
