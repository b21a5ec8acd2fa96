package pack

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The parts of a CycloneDX document that are used here.
type (
	bom struct {
		Format       string        `json:"bomFormat"`
		SpecVersion  string        `json:"specVersion"`
		SerialNumber string        `json:"serialNumber"`
		Version      int           `json:"version"`
		Metadata     bomMetadata   `json:"metadata"`
		Components   []component   `json:"components"`
		Compositions []composition `json:"compositions"`
	}
	bomMetadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Scope      string     `json:"scope,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []licence  `json:"licenses,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	licence struct {
		License licenceName `json:"license"`
	}
	licenceName struct {
		Name string `json:"name"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	composition struct {
		Aggregate  string   `json:"aggregate"`
		Assemblies []string `json:"assemblies"`
	}
)

// SBOM returns the bill of materials of a program, a CycloneDX document. It lists the modules and the
// version of Go that the linker has recorded in the program, with the checksums of go.sum.
func (r Release) SBOM(p Program, file string, program []byte) ([]byte, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("failed to read what %s was built from: %w", p.Name, err)
	}
	sum := sha256.Sum256(program)
	main := component{Ref: p.Name, Type: "application", Name: p.Name, Version: r.Version,
		Hashes: []hash{{Algorithm: "SHA-256", Content: hex.EncodeToString(sum[:])}},
		Properties: []property{{Name: "hutong:commit", Value: r.Commit},
			{Name: "hutong:package", Value: info.Path}}}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "-tags":
			main.Properties = append(main.Properties, property{Name: "go:" + setting.Key,
				Value: setting.Value})
		}
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	document := bom{
		Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		// The same program has the same serial number.
		SerialNumber: "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceOID, sum[:]).String(),
		Metadata:     bomMetadata{Timestamp: r.Time.UTC().Format(time.RFC3339), Component: main},
		Components: []component{{Ref: "pkg:golang/std@" + goVersion, Type: "library", Name: "std",
			Version: goVersion, Scope: "required", PURL: "pkg:golang/std@" + goVersion}},
		Compositions: []composition{{Aggregate: "complete", Assemblies: []string{p.Name}}},
	}
	for _, module := range info.Deps {
		c, err := moduleComponent(module)
		if err != nil {
			return nil, err
		}
		document.Components = append(document.Components, c)
	}
	data, err := json.MarshalIndent(document, "", "  ")
	return append(data, '\n'), err
}

func moduleComponent(module *debug.Module) (component, error) {
	if module.Replace != nil {
		module = module.Replace
	}
	purl := "pkg:golang/" + module.Path + "@" + url.PathEscape(module.Version)
	c := component{Ref: purl, Type: "library", Name: module.Path, Version: module.Version, Scope: "required",
		PURL: purl}
	// An h1 sum is a SHA-256 over the hashes of the module's files.
	if encoded, ok := strings.CutPrefix(module.Sum, "h1:"); ok {
		sum, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return component{}, fmt.Errorf("failed to read the checksum of module %s: %w", module.Path, err)
		}
		c.Hashes = []hash{{Algorithm: "SHA-256", Content: hex.EncodeToString(sum)}}
	}
	return c, nil
}
