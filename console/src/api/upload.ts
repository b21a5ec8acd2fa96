import { ApiError, token, unauthenticated } from "./client";
import { partyPaths, type Dataset } from "./party";

/** Uploading is an upload that has begun. */
export interface Uploading {
  done: Promise<Dataset>;
  abort: () => void;
}

/**
 * upload sends a form with a file, and reports how much of it has been sent. Only XMLHttpRequest tells that.
 */
export function upload(form: FormData, progress: (sent: number, all: number) => void): Uploading {
  const request = new XMLHttpRequest();
  const done = new Promise<Dataset>((resolve, reject) => {
    request.open("POST", partyPaths.upload);
    if (token.value) request.setRequestHeader("Authorization", `Bearer ${token.value}`);
    request.upload.onprogress = (e) => progress(e.loaded, e.total);
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onerror = () => reject(new ApiError(0, 0, "the connection was lost"));
    request.onload = () => {
      let body: { code?: number; message?: string; msg?: string; data?: Dataset } = {};
      try {
        body = JSON.parse(request.responseText) as typeof body;
      } catch {
        // A proxy's answer is no JSON.
      }
      if (request.status === 401) unauthenticated.value++;
      if (request.status >= 200 && request.status < 300 && body.data) resolve(body.data);
      else {
        const text = body.message ?? body.msg ?? (request.responseText || request.statusText);
        reject(new ApiError(request.status, body.code ?? 0, text));
      }
    };
    request.send(form);
  });
  return { done, abort: () => request.abort() };
}
