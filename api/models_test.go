package api

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/store/model"
)

// trained returns a party that has trained a model in job old, in both roles, and can apply it.
func trained(t *testing.T) *party {
	t.Helper()
	p := newParty(t).withData()
	var registration map[string]any
	require.NoError(t, json.Unmarshal(vector(t, "provider_register.request.json"), &registration))
	components := registration["components_description"].(map[string]any)
	predict := map[string]any{}
	for name, value := range components["HeteroSecureBoost"].(map[string]any) {
		predict[name] = value
	}
	predict["componentName"], predict["inputParam"] = "HeteroSecureBoost_predict", []any{}
	predict["inputData"] = []any{map[string]any{"name": "model", "category": "model"},
		map[string]any{"name": "test_data", "category": "dataset"}}
	predict["outputData"] = []any{map[string]any{"name": "predictions", "category": "dataset"}}
	components["HeteroSecureBoost_predict"] = predict
	p.good(post(bfia.PathProviderRegister, registration))

	p.good(post(bfia.PathCreate, job(t, "old")))
	for task, id := range map[string]string{first: "id-0", second: "id-1"} {
		_, err := p.store.StartTask(t.Context(), "old", task, id, 1, time.Now())
		require.NoError(t, err)
	}
	for _, role := range []string{"guest", "host"} {
		part := bfia.Part{Role: role, NodeID: guest}
		at := bfia.OutputAddress("id-1", part, bfia.Port{Type: "model", Key: "model0"})
		for _, name := range []string{"data_0", "metadata"} {
			require.NoError(t, p.blobs.Put(t.Context(), at.Namespace+"/"+at.Name+"/"+name,
				strings.NewReader(name+" of the "+role)))
		}
		require.NoError(t, activities.RecordOutputs(t.Context(), p.store, p.blobs, activities.PartRequest{
			Key: activities.TaskKey{JobID: "old", Task: second, Role: role}, Part: part, TaskID: "id-1"},
			time.Now()))
	}
	return p
}

func (p *party) endJob(id string) {
	p.t.Helper()
	require.NoError(p.t, p.store.UpdateJob(p.t.Context(), id, bfia.JobFinished, "", time.Now()))
}

// predictJob returns a job that uses a model at the nodes of two roles.
func predictJob(id, model, guestNode, hostNode string) string {
	return fmt.Sprintf(`{"job_id":%q,"dag":{"components":[{"name":"use","provider":"unionpay",
		"version":"2.0.0","componentName":"HeteroSecureBoost_predict",
		"output":[{"type":"dataset","key":"predictions"}]}]},
		"config":{"initiator":{"role":"guest","node_id":%q},"role":{"guest":[%q],"host":[%q]},
		"task_params":{"common":{"use":{"model_id":%q}},
		"guest":{"0":{"use":{"dataset_id":"testspace#test_guest"}}},
		"host":{"0":{"use":{"dataset_id":"testspace#test_host"}}}}}}`, id, guestNode, guestNode, hostNode,
		model)
}

// TestPredictWithModel makes the document of a job that applies a model, and submits it as it is.
func TestPredictWithModel(t *testing.T) {
	p := trained(t)
	const name = "old:" + second
	p.endJob("old")
	var view bfia.PredictionView
	p.good(get(bfia.PathModelPrediction + "?model=" + name)).into(&view)
	require.Equal(t, []bfia.PredictedTaskView{{Name: first, Component: "Intersection"},
		{Name: second, Component: "HeteroSecureBoost_predict", Model: name}}, view.Tasks)
	text, err := json.Marshal(view.Document)
	require.NoError(t, err)
	document, err := bfia.ParseDocument(text)
	require.NoError(t, err)
	require.Equal(t, bfia.Initiator{Role: "guest", NodeID: guest}, document.Config.Initiator)
	require.Contains(t, string(text), `"model_id":"`+name+`"`)
	require.Contains(t, string(text), `"dataset_id":"testspace#test_guest"`)

	query := get(bfia.PathModelPrediction + "?model=" + name + "&component=Intersection")
	p.good(query).into(&view)
	require.Equal(t, "Intersection", view.Tasks[1].Component)
	p.bad(get(bfia.PathModelPrediction+"?model="+name+"&component=None"), 404, bfia.CodeNotFound,
		"model: no component that applies it", `has no component "None"`)
	p.bad(get(bfia.PathModelPrediction+"?model=old:none"), 404, bfia.CodeNotFound, "is not known")
	p.bad(get(bfia.PathModelPrediction), 400, bfia.CodeBadRequest, "model: ", "is not of the form job:task")
}

// TestModels lists, keeps, uses and deletes a model. A job is refused for each reason for which this party
// can't use it.
func TestModels(t *testing.T) {
	p := trained(t)
	const name = "old:" + second
	models := func(query string) (views []bfia.ModelView) {
		t.Helper()
		p.good(get(bfia.PathModelQuery + query)).into(&views)
		return views
	}
	create := func(id, model string) call {
		return post(bfia.PathCreate, predictJob(id, model, guest, guest))
	}
	p.bad(create("early", name), 200, bfia.CodeConflict, "job old is READY; its models can be used once")
	p.bad(post(bfia.PathModelDelete, bfia.ModelName{Model: name}), 409, bfia.CodeConflict, "job old is READY")
	p.endJob("old")

	list := models("?job_id=old")
	require.Len(t, list, 2)
	require.Equal(t, name+".model0", list[0].Model)
	require.Equal(t, []string{"guest.0", "host.0"}, []string{list[0].Role, list[1].Role})
	require.NotEqual(t, list[0].SHA256, list[1].SHA256)
	require.Len(t, list[0].Datasets, 1)
	require.Regexp(t, `^testspace#test_guest@.+`, list[0].Datasets[0])
	require.Empty(t, list[0].Document)
	require.Empty(t, models("?job_id=other"))

	place := "config.task_params.guest.0.use.model_id: "
	p.bad(create("none", "other:"+second), 200, bfia.CodeNotFound, place+guest+" has no part of model other:")
	p.bad(create("port", name+".other"), 200, bfia.CodeNotFound, place+guest+" has no part of model")
	p.bad(create("form", "old"), 200, bfia.CodeBadRequest, place, "is not of the form job:task")
	p.bad(post(bfia.PathCreate, predictJob("else", name, guest, host)), 200, bfia.CodeConflict,
		place+"model "+name, "was trained with host "+guest+", but task use runs with host "+host)
	p.good(create("use", name))
	p.good(create("use", name)) // repeated
	shownModel := func() *bfia.InputModelView {
		t.Helper()
		var shown bfia.JobView
		p.good(get(bfia.PathJobShow + "?job_id=use")).into(&shown)
		require.Len(t, shown.Tasks[0].Parts, 2)
		require.Equal(t, shown.Tasks[0].Parts[0].Model, shown.Tasks[0].Parts[1].Model)
		return shown.Tasks[0].Parts[0].Model
	}
	require.Equal(t, &bfia.InputModelView{Model: name, JobID: "old", Task: second,
		Component: "HeteroSecureBoost", Provider: "unionpay:2.0.0"}, shownModel())
	one := models("?model=" + name)
	require.Len(t, one, 2)
	require.Equal(t, []bfia.ModelUse{{JobID: "use", State: bfia.JobReady}}, one[0].Jobs)
	require.JSONEq(t, `0.5`, string(one[0].Parameters["learning_rate"]))
	require.Contains(t, string(one[0].Document), second)

	p.bad(post(bfia.PathModelDelete, bfia.ModelName{Model: name}), 409, bfia.CodeConflict,
		"is used by job use (READY)")
	p.good(post(bfia.PathModelKeep, bfia.ModelName{Model: name}))
	require.True(t, models("")[0].Kept)
	p.good(post(bfia.PathJobDelete, `{"job_id":"old"}`))
	spec, err := activities.ContainerSpec(t.Context(), p.store, activities.TaskKey{JobID: "use", Task: "use",
		Role: "host"}, bfia.Part{Role: "host", NodeID: guest}, "id-2")
	require.NoError(t, err)
	in := spec.Inputs[len(spec.Inputs)-1]
	require.Equal(t, "model", in.Port)
	objects, err := p.blobs.List(t.Context(), in.Address.Namespace+"/"+in.Address.Name)
	require.NoError(t, err)
	require.Len(t, objects, 2, "kept, the model survives its job")

	p.endJob("use")
	p.good(post(bfia.PathModelDelete, bfia.ModelName{Model: name}))
	objects, err = p.blobs.List(t.Context(), in.Address.Namespace)
	require.NoError(t, err)
	require.Empty(t, objects)
	p.bad(post(bfia.PathModelDelete, bfia.ModelName{Model: name}), 404, bfia.CodeNotFound)
	p.bad(post(bfia.PathModelKeep, bfia.ModelName{Model: "x"}), 400, bfia.CodeBadRequest, "model: \"x\"")
	p.good(create("use", name)) // the job keeps what it used
	require.Equal(t, &bfia.InputModelView{Model: name, JobID: "old", Task: second}, shownModel(),
		"the model is deleted")
	p.bad(create("late", name), 200, bfia.CodeNotFound, "has no part of model")
}

// TestModelGoesWithItsJob deletes the job of a model that was not kept.
func TestModelGoesWithItsJob(t *testing.T) {
	p := trained(t)
	p.endJob("old")
	p.good(post(bfia.PathJobDelete, `{"job_id":"old"}`))
	p.bad(get(bfia.PathModelQuery+"?model=old:"+second), 404, bfia.CodeNotFound)
	objects, err := p.blobs.List(t.Context(), "guest-"+guest+"-model-model0")
	require.NoError(t, err)
	require.Empty(t, objects)
}

// editArchive returns an archive with changed entries.
func editArchive(t *testing.T, archive []byte, change func(files map[string][]byte)) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	require.NoError(t, err)
	files := map[string][]byte{}
	for _, f := range r.File {
		entry, err := f.Open()
		require.NoError(t, err)
		files[f.Name], err = io.ReadAll(entry)
		require.NoError(t, err)
	}
	change(files)
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		entry, err := w.Create(name)
		require.NoError(t, err)
		_, err = entry.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// newSigner returns a new key with a certificate of a node.
func newSigner(t testing.TB, node string) certs.Signer {
	t.Helper()
	key, err := certs.NewKey()
	require.NoError(t, err)
	text, err := certs.SelfSignedFor(key, certs.Leaf{Node: node})
	require.NoError(t, err)
	chain, err := certs.ParseCertificates(text)
	require.NoError(t, err)
	return certs.Signer{Key: key, Chain: chain}
}

// sign signs the manifest of an archive as it is now, with the certificates of a key.
func sign(t *testing.T, files map[string][]byte, signer certs.Signer) {
	t.Helper()
	files["certificates.pem"] = signer.Certificates()
	was := regexp.MustCompile(`"certificates_sha256": "\w+"`)
	sum := sha256.Sum256(signer.Certificates())
	files["manifest.json"] = was.ReplaceAll(files["manifest.json"],
		fmt.Appendf(nil, `"certificates_sha256": "%x"`, sum))
	var err error
	files["manifest.sig"], err = signer.Sign(model.Format, files["manifest.json"])
	require.NoError(t, err)
}

// TestSignedModels imports archives that this party, a partner, a stranger or nobody has signed. No byte of
// an archive can change, and no signature can move to another archive.
func TestSignedModels(t *testing.T) {
	p := trained(t)
	p.endJob("old")
	const name = "old:" + second + ".model0"
	archive := p.send(get(bfia.PathModelExport + "?model=" + name)).Body
	stranger, partner := newSigner(t, guest), newSigner(t, host)
	p.known = map[certs.Pin]string{certs.PinOf(partner.Chain[0]): host}
	signed := func(signer certs.Signer) []byte {
		return editArchive(t, archive, func(files map[string][]byte) { sign(t, files, signer) })
	}
	unsigned := editArchive(t, archive, func(files map[string][]byte) {
		delete(files, "manifest.sig")
		delete(files, "certificates.pem")
	})
	imported := func(body []byte, query string) call { return post(bfia.PathModelImport+query, body) }
	keyOf := func(s certs.Signer) string { return certs.PinOf(s.Chain[0]).Hex() }

	for _, c := range []struct {
		archive []byte
		query   string
		want    bfia.ModelImported
	}{
		{archive, "", bfia.ModelImported{SignedBy: guest, Key: keyOf(p.key)}},
		{archive, "?unsigned=true", bfia.ModelImported{SignedBy: guest, Key: keyOf(p.key)}},
		{archive, "?signer=" + keyOf(p.key), bfia.ModelImported{SignedBy: guest, Key: keyOf(p.key)}},
		{unsigned, "?unsigned=true", bfia.ModelImported{}},
		{signed(partner), "?signer=" + keyOf(partner),
			bfia.ModelImported{SignedBy: host, Key: keyOf(partner)}},
		{signed(stranger), "?signer=" + keyOf(stranger), bfia.ModelImported{Key: keyOf(stranger)}},
	} {
		p.good(post(bfia.PathModelDelete, bfia.ModelName{Model: name}))
		var answer bfia.ModelImported
		p.good(imported(c.archive, c.query)).into(&answer)
		c.want.Model = name
		require.Equal(t, c.want, answer)
	}

	p.good(post(bfia.PathModelDelete, bfia.ModelName{Model: name}))
	for _, c := range []struct {
		archive []byte
		query   string
		want    string
	}{
		{unsigned, "", "archive: is not signed"},
		{unsigned, "?signer=" + keyOf(p.key), "archive: is not signed"},
		{signed(stranger), "", "no known key signed it, but the key " +
			certs.PinOf(stranger.Chain[0]).String() + ": nobody has this key"},
		{signed(stranger), "?unsigned=true", "no known key signed it"},
		{signed(stranger), "?signer=" + keyOf(partner), "signed it, not the named one"},
		{signed(partner), "", "partner " + host + " signed it with the key "},
		{archive, "?signer=" + keyOf(partner), "signed it, not the named one"},
	} {
		p.bad(imported(c.archive, c.query), 409, bfia.CodeConflict, "archive: ", c.want)
	}
	p.bad(imported(archive, "?unsigned=1"), 400, bfia.CodeBadRequest, `unsigned: must be true or false`)
	p.bad(imported(archive, "?signer=1"), 400, bfia.CodeBadRequest, `signer: "1" is not the SHA-256`)
	p.bad(imported(archive, "?unsigned=true&signer="+keyOf(partner)), 400, bfia.CodeBadRequest, "signer: ")

	// Whatever the flags, changed bytes are refused.
	flip := func(name string, at int) func(map[string][]byte) {
		return func(files map[string][]byte) { files[name][at] ^= 1 }
	}
	other, err := p.key.Sign("hutong-evidence-1", manifestOf(t, archive))
	require.NoError(t, err)
	for _, c := range []struct {
		change func(map[string][]byte)
		want   string
	}{
		{flip("manifest.json", bytes.Index(manifestOf(t, archive), []byte("learning_rate"))), "is not valid"},
		{flip("manifest.json", bytes.Index(manifestOf(t, archive), []byte("data_0"))), "is not valid"},
		{flip("manifest.sig", 9), "is not valid"},
		{func(f map[string][]byte) { f["manifest.sig"] = nil }, "is not valid"},
		{func(f map[string][]byte) { f["manifest.sig"] = other }, "is not valid"},
		{func(f map[string][]byte) { f["certificates.pem"] = stranger.Certificates() }, "is not valid"},
		{func(f map[string][]byte) { f["certificates.pem"] = []byte("x") }, "certificates.pem: "},
		{func(f map[string][]byte) { f["certificates.pem"] = append(p.key.Certificates(), '\n') },
			"certificates.pem is not what its manifest says"},
		{func(f map[string][]byte) { delete(f, "manifest.sig") }, "has no manifest.sig"},
		{func(f map[string][]byte) { delete(f, "certificates.pem") }, "has no certificates.pem"},
		{func(f map[string][]byte) { f["manifest.sig"] = make([]byte, 2<<20) },
			"manifest.sig is longer than"},
		{flip("guest.0/data_0", 0), "the hashes differ"},
		{flip("host.0/metadata", 3), "the hashes differ"},
	} {
		for _, query := range []string{"", "?unsigned=true", "?signer=" + keyOf(p.key)} {
			p.bad(imported(editArchive(t, archive, c.change), query), 400, bfia.CodeBadRequest, "archive: ",
				c.want)
		}
	}
	p.bad(get(bfia.PathModelQuery+"?model="+name), 404, bfia.CodeNotFound)
}

func manifestOf(t *testing.T, archive []byte) (manifest []byte) {
	t.Helper()
	editArchive(t, archive, func(files map[string][]byte) { manifest = files["manifest.json"] })
	require.NotEmpty(t, manifest)
	return manifest
}

// TestManifestOfMillions imports archives of some kilobytes, unsigned, of which the manifest alone would fill
// the memory once it is decoded.
func TestManifestOfMillions(t *testing.T) {
	p := newParty(t)
	for _, repeated := range []string{`{"parts":[%s{}]}`, `{"parts":[{"files":[%s{}]}]}`} {
		text := fmt.Sprintf(repeated, strings.Repeat("{},", 4<<20))
		var archive bytes.Buffer
		w := zip.NewWriter(&archive)
		entry, err := w.Create("manifest.json")
		require.NoError(t, err)
		_, err = io.WriteString(entry, text)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.Less(t, archive.Len(), 64<<10)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p.bad(post(bfia.PathModelImport+"?unsigned=true", archive.Bytes()), 400, bfia.CodeBadRequest,
			"archive: manifest.json has more than")
		runtime.ReadMemStats(&after)
		// The text itself is read into a growing buffer.
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(len(text))*8, "bytes allocated")
	}
}

// TestExportAndImport brings an exported model back after it is deleted, and refuses archives that are not
// whole or contain what they should not.
func TestExportAndImport(t *testing.T) {
	p := trained(t)
	const name = "old:" + second + ".model0"
	export := bfia.PathModelExport + "?model=" + name
	p.bad(get(export), 409, bfia.CodeConflict, "job old is READY")
	p.endJob("old")
	archive := p.send(get(export)).Body
	before := p.trail()[len(p.trail())-1]
	require.Equal(t, audit.ExportModel+" model "+name, before.Act+" "+before.Object.String())

	var manifest model.Manifest
	require.Len(t, archive, len(editArchive(t, archive, func(files map[string][]byte) {
		require.Len(t, files, 7)
		require.Equal(t, "data_0 of the host", string(files["host.0/data_0"]))
		require.NoError(t, json.Unmarshal(files["manifest.json"], &manifest))
	})))
	require.Equal(t, []string{"unionpay", "2.0.0", guest}, []string{manifest.Provider, manifest.Version,
		manifest.NodeID})
	require.Len(t, manifest.Parts, 2)
	require.NotEmpty(t, manifest.Parts[0].Images)
	require.NotEmpty(t, manifest.Parts[0].Datasets)

	imported := func(body []byte) call { return post(bfia.PathModelImport, body) }
	p.good(imported(archive)) // it is there, and is kept from now on
	p.good(post(bfia.PathModelDelete, bfia.ModelName{Model: name}))
	edit := func(from, to string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			text := string(files["manifest.json"])
			require.Contains(t, text, from)
			files["manifest.json"] = []byte(strings.Replace(text, from, to, 1))
		}
	}
	const data = "guest.0/data_0"
	for want, change := range map[string]func(files map[string][]byte){
		"has no manifest.json":      func(f map[string][]byte) { delete(f, "manifest.json") },
		`has no entry "guest.0/dat`: func(f map[string][]byte) { delete(f, "guest.0/data_0") },
		"the hashes differ":         func(f map[string][]byte) { f[data] = []byte("data_0 of the gUest") },
		"not the size":              func(f map[string][]byte) { f[data] = []byte("longer than before") },
		"has 8 entries, but":        func(f map[string][]byte) { f["../evil"] = []byte("x") },
		"hash or size of guest.0":   edit(manifest.Parts[0].Files[0].SHA256, strings.Repeat("0", 64)),
		"parts: hash or size":       edit(`"name": "data_0"`, `"name": "../data_0"`),
		"holds the part of " + host: edit("\n  \"node_id\": \""+guest, "\n  \"node_id\": \""+host),
		"is not that of job":        edit(`"job_id": "old"`, `"job_id": "new"`),
		`format: is "other"`:        edit(model.Format, "other"),
		"manifest.json: ":           func(f map[string][]byte) { f["manifest.json"] = []byte("{") },
		"task_name: ":               edit(`"task_name": "`+second, `"task_name": "../`+second),
		"has no part guest.5":       edit(`"index": 0`, `"index": 5`),
	} {
		p.bad(imported(editArchive(t, archive, func(files map[string][]byte) {
			change(files)
			if files["manifest.json"] != nil {
				sign(t, files, p.key)
			}
		})), 400, bfia.CodeBadRequest, "archive: ", want)
	}
	// A name that leads out of the model, with hashes that agree.
	p.bad(imported(editArchive(t, archive, func(files map[string][]byte) {
		m := manifest
		m.Parts = m.Parts[:1]
		m.Parts[0].Files[0].Name = "../../data_0"
		m.Parts[0].SHA256, m.Parts[0].Bytes = model.Digest(m.Parts[0].Files)
		files["manifest.json"], _ = json.Marshal(m)
		files["guest.0/../../data_0"] = files["guest.0/data_0"]
		sign(t, files, p.key)
	})), 400, bfia.CodeBadRequest, `"../../data_0" is not a file name`)
	// A name that is a folder of another one.
	p.bad(imported(editArchive(t, archive, func(files map[string][]byte) {
		m := manifest
		m.Parts = slices.Clone(m.Parts[:1])
		file := manifest.Parts[0].Files[0]
		file.Name = "a"
		below := file
		below.Name = "a/b"
		m.Parts[0].Files = []model.File{file, below}
		m.Parts[0].SHA256, m.Parts[0].Bytes = model.Digest(m.Parts[0].Files)
		files["manifest.json"], _ = json.Marshal(m)
		files["guest.0/a"], files["guest.0/a/b"] = files["guest.0/data_0"], files["guest.0/data_0"]
		for name := range files {
			if strings.Contains(name, "/data_0") || strings.Contains(name, "/metadata") {
				delete(files, name)
			}
		}
		sign(t, files, p.key)
	})), 400, bfia.CodeBadRequest, `"a" can't be a file and the folder of "a/b"`)
	p.bad(imported([]byte("no zip")), 400, bfia.CodeBadRequest, "archive: is not a zip file")
	p.bad(imported(bytes.Repeat([]byte("x"), 5<<20)), 413, bfia.CodeTooLarge, "upload.max_bytes")
	p.bad(get(bfia.PathModelQuery+"?model="+name), 404, bfia.CodeNotFound)

	p.good(imported(archive))
	var views []bfia.ModelView
	p.good(get(bfia.PathModelQuery + "?model=" + name)).into(&views)
	require.Len(t, views, 2)
	require.True(t, views[0].Kept && views[0].Imported)
	require.Equal(t, manifest.Parts[1].SHA256, views[1].SHA256)
	p.good(post(bfia.PathCreate, predictJob("use", name, guest, guest)))
	p.endJob("use")

	// What is damaged is not used, and not exported.
	parts, err := p.store.ModelParts(t.Context(), bfia.ModelRef{JobID: "old", Task: second})
	require.NoError(t, err)
	key := parts[0].Namespace + "/" + parts[0].Name + "/data_0"
	require.NoError(t, p.blobs.Put(t.Context(), key, strings.NewReader("data_0 of the gUest")))
	p.bad(get(export), 409, bfia.CodeConflict, "is not what was trained")
	require.NoError(t, p.blobs.Delete(t.Context(), key))
	p.bad(post(bfia.PathCreate, predictJob("lost", name, guest, guest)), 200, bfia.CodeNotFound,
		"has lost the content of model")
}
