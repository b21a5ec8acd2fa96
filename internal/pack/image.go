package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// imageUser is the user and group of Hutong's image. It is neither an account of a usual machine nor the
// user of the containers of algorithms, 65532.
const imageUser = 65530

// The annotations of the OCI image specification that say what an image holds.
const (
	labelTitle       = "org.opencontainers.image.title"
	labelDescription = "org.opencontainers.image.description"
	labelVersion     = "org.opencontainers.image.version"
	labelRevision    = "org.opencontainers.image.revision"
	labelCreated     = "org.opencontainers.image.created"
)

// File is a file or folder of an image. It belongs to root unless Owner is set.
type File struct {
	// Path is absolute. Its parents are created with the mode 0755.
	Path  string
	Mode  fs.FileMode
	Data  []byte
	Owner int
}

// Image is an image with one layer.
type Image struct {
	// Tag is its name, such as hutong/hutong:1.2.0.
	Tag string
	// Arch is the architecture of its program, by its name in Go.
	Arch string
	// Time is the time of its creation and of its files.
	Time time.Time
	// Files are its files, in any order.
	Files []File
	// Entrypoint, User, Dir, Env and Volumes are those of containers of it. Labels describe it.
	Entrypoint []string
	User, Dir  string
	Env        []string
	Labels     map[string]string
}

// HutongImage returns the image of all processes of a party.
func (r Release) HutongImage(arch string, program []byte) Image {
	return Image{
		Tag: "hutong/hutong:" + r.Version, Arch: arch, Time: r.Time,
		Files: []File{
			{Path: "/hutong", Mode: 0o755, Data: program},
			{Path: "/etc/passwd", Mode: 0o644, Data: fmt.Appendf(nil,
				"root:x:0:0::/:\nhutong:x:%d:%d::/var/lib/hutong:\n", imageUser, imageUser)},
			{Path: "/etc/group", Mode: 0o644, Data: fmt.Appendf(nil, "root:x:0:\nhutong:x:%d:\n", imageUser)},
			{Path: "/etc/hutong", Mode: fs.ModeDir | 0o755},
			// A new volume gets the owner of the folder that it covers.
			{Path: "/var/lib/hutong", Mode: fs.ModeDir | 0o700, Owner: imageUser},
			{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		},
		Entrypoint: []string{"/hutong"}, User: fmt.Sprintf("%d:%d", imageUser, imageUser),
		Dir: "/var/lib/hutong", Env: []string{"PATH=/", "HOME=/var/lib/hutong"},
		Labels: r.labels("Hutong",
			"All processes of a party, and the client: api, worker, transport, migrate"),
	}
}

// ProviderVersion is the version of the reference provider, as providers/reference/provider.json names it.
const ProviderVersion = "1.0.0"

// ProviderImage returns the reference provider's image. It names no user: a platform chooses the one that can
// write to the folders that it mounts.
func (r Release) ProviderImage(arch string, program []byte) Image {
	labels := r.labels("Hutong's reference provider",
		"Algorithms: Intersection, HeteroSecureBoost and others")
	labels[labelVersion] = ProviderVersion
	return Image{
		Tag: "hutong/provider:" + ProviderVersion, Arch: arch, Time: r.Time,
		Files:      []File{{Path: "/provider", Mode: 0o755, Data: program}},
		Entrypoint: []string{"/provider"}, Labels: labels,
	}
}

func (r Release) labels(title, description string) map[string]string {
	return map[string]string{labelTitle: title, labelDescription: description, labelVersion: r.Version,
		labelRevision: r.Commit, labelCreated: r.Time.UTC().Format(time.RFC3339)}
}

// The documents of an image, with the fields that are used here.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Platform    *platform         `json:"platform,omitempty"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	manifest struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        descriptor        `json:"config"`
		Layers        []descriptor      `json:"layers"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	imageConfig struct {
		Created      time.Time       `json:"created"`
		Architecture string          `json:"architecture"`
		OS           string          `json:"os"`
		Config       containerConfig `json:"config"`
		RootFS       rootFS          `json:"rootfs"`
		History      []history       `json:"history"`
	}
	containerConfig struct {
		User       string            `json:",omitempty"`
		Env        []string          `json:",omitempty"`
		Entrypoint []string          `json:",omitempty"`
		WorkingDir string            `json:",omitempty"`
		Labels     map[string]string `json:",omitempty"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	history struct {
		Created   time.Time `json:"created"`
		CreatedBy string    `json:"created_by"`
	}
	dockerImage struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
)

// The media types of the OCI image specification.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Write writes the image as a tar file that is both an OCI image layout and what docker load reads. It
// returns the digest of the image's manifest, by which registries know it.
func (i Image) Write(w io.Writer) (digest string, err error) {
	layer, err := i.layer()
	if err != nil {
		return "", fmt.Errorf("failed to write image %s: %w", i.Tag, err)
	}
	zipped, err := compress(layer)
	if err != nil {
		return "", fmt.Errorf("failed to write image %s: %w", i.Tag, err)
	}
	blobs := map[string][]byte{} // the files of the layout
	add := func(mediaType string, data []byte) descriptor {
		d := descriptor{MediaType: mediaType, Digest: digestOf(data), Size: len(data)}
		blobs[blobPath(d)] = data
		return d
	}
	addJSON := func(mediaType string, document any) descriptor { return add(mediaType, mustJSON(document)) }

	created := i.Time.UTC()
	layerBlob := add(typeLayer, zipped)
	config := addJSON(typeConfig, imageConfig{
		Created: created, Architecture: i.Arch, OS: "linux",
		Config: containerConfig{User: i.User, Env: i.Env, Entrypoint: i.Entrypoint, WorkingDir: i.Dir,
			Labels: i.Labels},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{digestOf(layer)}},
		History: []history{{Created: created, CreatedBy: "make image"}},
	})
	m := addJSON(typeManifest, manifest{SchemaVersion: 2, MediaType: typeManifest, Config: config,
		Layers: []descriptor{layerBlob}, Annotations: i.Labels})
	digest = m.Digest
	name, version, _ := strings.Cut(i.Tag, ":")
	m.Platform = &platform{Architecture: i.Arch, OS: "linux"}
	m.Annotations = map[string]string{"io.containerd.image.name": "docker.io/" + name + ":" + version,
		"org.opencontainers.image.ref.name": version}
	blobs["index.json"] = mustJSON(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{m}})
	blobs["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	blobs["manifest.json"] = mustJSON([]dockerImage{{Config: blobPath(config), RepoTags: []string{i.Tag},
		Layers: []string{blobPath(layerBlob)}}})

	var files []File
	for name, data := range blobs {
		files = append(files, File{Path: "/" + name, Mode: 0o644, Data: data})
	}
	if err := writeTar(w, files, i.Time); err != nil {
		return "", fmt.Errorf("failed to write image %s: %w", i.Tag, err)
	}
	return digest, nil
}

// layer returns the image's files as a tar file.
func (i Image) layer() ([]byte, error) {
	var buffer bytes.Buffer
	err := writeTar(&buffer, i.Files, i.Time)
	return buffer.Bytes(), err
}

// writeTar writes files, and the folders that hold them, in the order of their paths.
func writeTar(w io.Writer, files []File, at time.Time) error {
	all := map[string]File{}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			if _, exists := all[dir]; !exists {
				all[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
		all[f.Path] = f
	}
	archive := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		header := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(f.Mode.Perm()), Uid: f.Owner,
			Gid: f.Owner, Size: int64(len(f.Data)), ModTime: at.UTC(), Typeflag: tar.TypeReg,
			Format: tar.FormatPAX}
		if f.Mode&fs.ModeSticky != 0 {
			header.Mode |= 0o1000
		}
		if f.Mode.IsDir() {
			header.Name += "/"
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(f.Data); err != nil {
			return err
		}
	}
	return archive.Close()
}

func compress(data []byte) ([]byte, error) {
	var buffer bytes.Buffer
	zipper, err := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := zipper.Write(data); err != nil {
		return nil, err
	}
	err = zipper.Close()
	return buffer.Bytes(), err
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blobPath(d descriptor) string { return "blobs/" + strings.ReplaceAll(d.Digest, ":", "/") }

// mustJSON encodes a document of this file, none of which can fail.
func mustJSON(document any) []byte {
	data, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	return data
}
