/* pyloop's C ABI: how an extension module in any language meets the loop that runs it.
 *
 *     const PyLoop_Api *api = PyLoop_Get();          // with the GIL; NULL: no loop of pyloop's can be running
 *
 * A task of pyloop's that awaits an object of yours calls its tp_iternext. There, `api->current_waker` is the task's
 * waker: clone it, hand the clone to whoever will know that the result is there (any thread, any runtime), and return
 * the awaitable itself: "pending". A wake takes no GIL, blocks nowhere and makes the loop call tp_iternext again. The
 * type has to be registered once (`register_awaitable`), or the yielded object is taken for an asyncio future; under
 * other tasks `current_waker` is NULL, and there the asyncio protocol (`_asyncio_future_blocking`,
 * `add_done_callback`, `result`) is what works.
 *
 * Compiles as C11 and C++11 with Python.h of CPython 3.12 and later; uses the limited API alone.
 *
 * THE RULES
 * - Functions marked (GIL) are called with the GIL held, the others by any thread, with or without it. None blocks,
 *   none raises a Python exception, none lets a panic out. They may be called as long as the process lives, after a
 *   loop has closed and while the interpreter goes, too: they do nothing then.
 * - What a function gives (a clone, a loop, a callback waker, a timer) is the caller's: end it once, by the function
 *   that its comment names.
 * - The table begins with its size, and later versions add fields at its end only: ask PyLoop_HAS(api, field) for one
 *   that is younger than 1.0. `minor` counts those additions. Another `major` is another ABI: PyLoop_Get gives NULL,
 *   and the loop is then used as any other, by `call_soon_threadsafe`.
 */
#ifndef PYLOOP_H
#define PYLOOP_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. */
#define PYLOOP_MAJOR 1
#define PYLOOP_MINOR 2

/* Set in the flags of `current_waker` when the loop is in debug mode: slow polls are to be reported. */
#define PYLOOP_DEBUG 1u

/* A waker: of a task, of a callback, or of a spawned future. */
typedef struct PyLoop_Waker PyLoop_Waker;
/* An event loop, for wakes and messages from any thread. */
typedef struct PyLoop_Loop PyLoop_Loop;
/* A running timer. */
typedef struct PyLoop_Timer PyLoop_Timer;

typedef struct PyLoop_Api {
    /* Bytes of this struct that the provider has filled in. */
    size_t size;
    uint32_t major;
    uint32_t minor;

    /* (GIL) The waker of the task whose step is running on this thread, lent for the length of that step; NULL outside
     * of a step of a pyloop task. `flags` is set to 0 or PYLOOP_DEBUG then, unless it is NULL. */
    const PyLoop_Waker *(*current_waker)(uint32_t *flags);
    /* A waker of one's own; ended by `waker_wake` or `waker_drop`. NULL when memory is out. */
    PyLoop_Waker *(*waker_clone)(const PyLoop_Waker *waker);
    /* Wake, and drop the waker. Waking more than once, or too late, does no harm. */
    void (*waker_wake)(PyLoop_Waker *waker);
    /* Wake, and keep the waker. */
    void (*waker_wake_by_ref)(const PyLoop_Waker *waker);
    /* Drop the waker, which has not been consumed. */
    void (*waker_drop)(PyLoop_Waker *waker);

    /* (GIL) Objects of exactly this type, a PyTypeObject, may be yielded to a pyloop task when they keep its waker: the
     * task then waits for that. `cancel`, unless NULL, is called (GIL) with the object when the waiting task is
     * cancelled, before CancelledError is thrown into the coroutine. The type must never be freed. 0, or -1. */
    int (*register_awaitable)(PyObject *type, void (*cancel)(PyObject *awaitable));

    /* (GIL) The loop behind a Python event loop object; NULL when it is none of pyloop's. Ended by `loop_release`. */
    PyLoop_Loop *(*loop_acquire)(PyObject *event_loop);
    /* The loop that a thread is running (its PyThread_get_thread_ident()); NULL when it runs none of pyloop's. Ended by
     * `loop_release`. */
    PyLoop_Loop *(*loop_of_thread)(uint64_t thread_ident);
    void (*loop_release)(PyLoop_Loop *loop);
    /* 1 when this thread is running this loop, else 0. */
    int (*loop_is_current)(const PyLoop_Loop *loop);

    /* (GIL) A waker that has the loop call `callable()` in its next turn, each time it is woken; what the call raises
     * goes to sys.unraisablehook. It keeps a reference to the callable. Ended as a clone is. */
    PyLoop_Waker *(*loop_callback)(const PyLoop_Loop *loop, PyObject *callable);
    /* Have the loop poll a future of the caller's: `poll(data, waker)`, on the loop's thread with the GIL held, again
     * whenever the waker (lent for the call) or a clone of it is woken, until it gives other than 0. `drop(data)` is
     * called once: after that, or when the loop closes; by the calling thread, perhaps without the GIL, when the loop
     * closes during the call. Neither may raise. 0, or -1 when the loop has closed: `data` is then still the
     * caller's. */
    int (*loop_spawn)(const PyLoop_Loop *loop, void *data, int (*poll)(void *data, const PyLoop_Waker *waker),
                      void (*drop)(void *data));

    /* Wake `waker`, which is lent for the call, once, so many nanoseconds from now: never early, up to a millisecond
     * late. Ended by `timer_drop`, before or after its time; before, it does not wake any more. */
    PyLoop_Timer *(*loop_timer)(const PyLoop_Loop *loop, uint64_t nanoseconds, const PyLoop_Waker *waker);
    void (*timer_drop)(PyLoop_Timer *timer);

    /* Since 1.1 (GIL): to be called in tp_iternext when the awaitable is pending and will be returned. The number of the
     * step that runs; 0 when the task's waker has been woken meanwhile (the awaitable gave way), and outside of a step.
     * One that is pending a second time in a step of the same number is iterated (`for`, `list()`) instead of awaited,
     * and would be for ever: asyncio's futures raise RuntimeError("await wasn't used with future") then. */
    uint64_t (*note_pending)(void);

    /* Since 1.2 (GIL): the task whose step is running on this thread, borrowed for the length of that step; NULL outside of
     * a step of a pyloop task. `await anext(iterator, default)` calls __await__ for each of its steps: an awaitable that
     * refuses a second one compares this with the task that it was pending in, and gives that its iterator again. */
    PyObject *(*current_task)(void);
} PyLoop_Api;

/* Whether the loop that is there has this field of PyLoop_Api. */
#define PyLoop_HAS(api, field) ((api)->size >= offsetof(PyLoop_Api, field) + sizeof((api)->field))

/* (GIL) The functions of the loop; NULL, without an exception set, when pyloop has not been imported or speaks another
 * ABI. Not an import: without the module no task of its kind can be running. The pointer stays valid. */
static inline const PyLoop_Api *PyLoop_Get(void) {
    const PyLoop_Api *api = NULL;
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = modules ? PyDict_GetItemString(modules, "pyloop._native") : NULL; /* borrowed */
    PyObject *capsule = module ? PyObject_GetAttrString(module, "_bridge") : NULL;
    if (capsule) {
        api = (const PyLoop_Api *)PyCapsule_GetPointer(capsule, "pyloop._native._bridge");
        Py_DECREF(capsule);
    }
    PyErr_Clear();
    if (api && (api->major != PYLOOP_MAJOR || !PyLoop_HAS(api, timer_drop))) {
        api = NULL;
    }
    return api;
}

#ifdef __cplusplus
}
#endif

#endif /* PYLOOP_H */
