/* A client of pyloop's C ABI without any Rust: what tests/bridge/test_c.py compiles and imports.
 *
 * Waiting(milliseconds)             awaitable: a thread of its own wakes the task after so long; gives 42
 * spawn(loop, polls, report)        a future on the loop, ready after so many polls; report("polled" | "dropped")
 * callback(loop, callable, wakes)   a thread wakes the loop so many times, which calls `callable`
 * timer(loop, nanoseconds, callable, drop)
 *                                   the loop calls `callable` after so long, unless `drop`: the timer is dropped at once
 */
#define _POSIX_C_SOURCE 200809L
#include "pyloop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static const PyLoop_Api *need_api(void) {
    const PyLoop_Api *api = PyLoop_Get();
    if (!api) {
        PyErr_SetString(PyExc_RuntimeError, "no loop of pyloop's, or one that speaks another ABI");
    }
    return api;
}

static PyLoop_Loop *need_loop(const PyLoop_Api *api, PyObject *event_loop) {
    PyLoop_Loop *loop = api->loop_acquire(event_loop);
    if (!loop) {
        PyErr_SetString(PyExc_TypeError, "not a loop of pyloop's");
    }
    return loop;
}

static void pause_for(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* ---- Waiting -------------------------------------------------------------------------------------------------- */

/* Shared with the thread, which never touches Python. */
typedef struct {
    const PyLoop_Api *api;
    PyLoop_Waker *waker;
    long milliseconds;
    atomic_int done;
    atomic_int owners;
} Signal;

typedef struct {
    PyObject_HEAD
    Signal *signal;
    long milliseconds;
    int cancelled;
    /* The step in which it was pending. */
    uint64_t pending_in;
} Waiting;

static PyTypeObject *waiting_type;

static void signal_release(Signal *signal) {
    if (signal && atomic_fetch_sub(&signal->owners, 1) == 1) {
        free(signal);
    }
}

static void *signal_body(void *data) {
    Signal *signal = data;
    pause_for(signal->milliseconds);
    atomic_store(&signal->done, 1);
    signal->api->waker_wake(signal->waker);
    signal_release(signal);
    return NULL;
}

/* The step that it is pending in; 0 where the loop does not say. */
static uint64_t pending_in(const PyLoop_Api *api) {
#ifdef OLDER_HEADER
    (void)api;
    return 0;
#else
    return PyLoop_HAS(api, note_pending) ? api->note_pending() : 0;
#endif
}

static PyObject *waiting_iternext(PyObject *self) {
    Waiting *this = (Waiting *)self;
    const PyLoop_Api *api = need_api();
    if (!api) {
        return NULL;
    }
    if (this->signal) {
        if (atomic_load(&this->signal->done)) {
            PyObject *value = PyLong_FromLong(42);
            if (value) {
                PyErr_SetObject(PyExc_StopIteration, value);
                Py_DECREF(value);
            }
            return NULL;
        }
        uint64_t step = pending_in(api);
        if (step && step == this->pending_in) {
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            return NULL;
        }
        this->pending_in = step;
        return Py_NewRef(self);
    }
    uint32_t flags;
    const PyLoop_Waker *current = api->current_waker(&flags);
    if (!current) {
        PyErr_SetString(PyExc_RuntimeError, "not inside a task of pyloop's");
        return NULL;
    }
    Signal *signal = calloc(1, sizeof *signal);
    if (!signal) {
        return PyErr_NoMemory();
    }
    signal->api = api;
    signal->waker = api->waker_clone(current);
    signal->milliseconds = this->milliseconds;
    atomic_init(&signal->owners, 2);
    pthread_t thread;
    if (pthread_create(&thread, NULL, signal_body, signal)) {
        api->waker_drop(signal->waker);
        free(signal);
        PyErr_SetString(PyExc_OSError, "no thread");
        return NULL;
    }
    pthread_detach(thread);
    this->signal = signal;
    this->pending_in = pending_in(api);
    return Py_NewRef(self);
}

static void waiting_cancel(PyObject *self) {
    Waiting *this = (Waiting *)self;
    this->cancelled += 1;
    signal_release(this->signal);
    this->signal = NULL;
}

static PyObject *waiting_cancelled(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLong(((Waiting *)self)->cancelled);
}

static PyObject *waiting_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    long milliseconds;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "l", &milliseconds)) {
        return NULL;
    }
    Waiting *this = (Waiting *)type->tp_alloc(type, 0);
    if (this) {
        this->milliseconds = milliseconds;
    }
    return (PyObject *)this;
}

static void waiting_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    signal_release(((Waiting *)self)->signal);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyGetSetDef waiting_getset[] = {{"cancelled", waiting_cancelled, NULL, NULL, NULL}, {0}};

static PyType_Slot waiting_slots[] = {
    {Py_tp_new, (void *)waiting_new},        {Py_tp_dealloc, (void *)waiting_dealloc},
    {Py_am_await, (void *)PyObject_SelfIter}, {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)waiting_iternext}, {Py_tp_getset, waiting_getset},
    {0, NULL},
};

static PyType_Spec waiting_spec = {"c_client.Waiting", sizeof(Waiting), 0, Py_TPFLAGS_DEFAULT, waiting_slots};

/* ---- futures, callbacks, timers ------------------------------------------------------------------------------- */

typedef struct {
    const PyLoop_Api *api;
    PyLoop_Loop *loop;
    PyObject *report;
    long polls;
} Spawned;

static void report(Spawned *spawned, const char *what) {
    PyObject *answer = PyObject_CallFunction(spawned->report, "si", what, spawned->api->loop_is_current(spawned->loop));
    if (!answer) {
        PyErr_WriteUnraisable(spawned->report);
    }
    Py_XDECREF(answer);
}

static int spawned_poll(void *data, const PyLoop_Waker *waker) {
    Spawned *spawned = data;
    report(spawned, "polled");
    if (--spawned->polls == 0) {
        return 1;
    }
    /* One's own clone, or the one that is lent. */
    if (spawned->polls % 2) {
        spawned->api->waker_wake(spawned->api->waker_clone(waker));
    } else {
        spawned->api->waker_wake_by_ref(waker);
    }
    return 0;
}

static void spawned_drop(void *data) {
    Spawned *spawned = data;
    PyGILState_STATE state = PyGILState_Ensure();
    report(spawned, "dropped");
    Py_DECREF(spawned->report);
    PyGILState_Release(state);
    spawned->api->loop_release(spawned->loop);
    free(spawned);
}

static PyObject *spawn(PyObject *module, PyObject *args) {
    PyObject *event_loop, *reporter;
    long polls;
    const PyLoop_Api *api = need_api();
    (void)module;
    if (!api || !PyArg_ParseTuple(args, "OlO", &event_loop, &polls, &reporter)) {
        return NULL;
    }
    PyLoop_Loop *loop = need_loop(api, event_loop);
    if (!loop) {
        return NULL;
    }
    Spawned *spawned = calloc(1, sizeof *spawned);
    if (!spawned) {
        return PyErr_NoMemory();
    }
    *spawned = (Spawned){api, loop, Py_NewRef(reporter), polls};
    if (api->loop_spawn(loop, spawned, spawned_poll, spawned_drop)) {
        Py_DECREF(reporter);
        api->loop_release(loop);
        free(spawned);
        PyErr_SetString(PyExc_RuntimeError, "the loop is closed");
        return NULL;
    }
    Py_RETURN_NONE;
}

typedef struct {
    const PyLoop_Api *api;
    PyLoop_Waker *waker;
    long wakes;
} Waking;

static void *waking_body(void *data) {
    Waking *waking = data;
    for (long i = 1; i < waking->wakes; i++) {
        waking->api->waker_wake_by_ref(waking->waker);
    }
    waking->api->waker_wake(waking->waker);
    free(waking);
    return NULL;
}

static PyObject *callback(PyObject *module, PyObject *args) {
    PyObject *event_loop, *callable;
    long wakes;
    const PyLoop_Api *api = need_api();
    (void)module;
    if (!api || !PyArg_ParseTuple(args, "OOl", &event_loop, &callable, &wakes)) {
        return NULL;
    }
    PyLoop_Loop *loop = need_loop(api, event_loop);
    if (!loop) {
        return NULL;
    }
    PyLoop_Waker *waker = api->loop_callback(loop, callable);
    api->loop_release(loop);
    if (wakes == 0) {
        api->waker_drop(waker);
        Py_RETURN_NONE;
    }
    Waking *waking = calloc(1, sizeof *waking);
    if (!waking) {
        return PyErr_NoMemory();
    }
    *waking = (Waking){api, waker, wakes};
    pthread_t thread;
    if (pthread_create(&thread, NULL, waking_body, waking)) {
        PyErr_SetString(PyExc_OSError, "no thread");
        return NULL;
    }
    /* The wakes need no GIL. */
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

#ifndef OLDER_HEADER
static PyObject *timer(PyObject *module, PyObject *args) {
    PyObject *event_loop, *callable;
    unsigned long long nanoseconds;
    int dropped;
    const PyLoop_Api *api = need_api();
    (void)module;
    if (!api || !PyArg_ParseTuple(args, "OKOp", &event_loop, &nanoseconds, &callable, &dropped)) {
        return NULL;
    }
    if (!PyLoop_HAS(api, timer_drop)) {
        PyErr_SetString(PyExc_NotImplementedError, "the loop has no timers");
        return NULL;
    }
    PyLoop_Loop *loop = need_loop(api, event_loop);
    if (!loop) {
        return NULL;
    }
    PyLoop_Waker *waker = api->loop_callback(loop, callable);
    PyLoop_Timer *timer = api->loop_timer(loop, nanoseconds, waker);
    api->waker_drop(waker);
    api->loop_release(loop);
    if (dropped) {
        api->timer_drop(timer);
        Py_RETURN_NONE;
    }
    return PyCapsule_New(timer, "c_client.timer", NULL);
}

static PyObject *drop_timer(PyObject *module, PyObject *capsule) {
    const PyLoop_Api *api = need_api();
    (void)module;
    PyLoop_Timer *timer = PyCapsule_GetPointer(capsule, "c_client.timer");
    if (!api || !timer) {
        return NULL;
    }
    api->timer_drop(timer);
    Py_RETURN_NONE;
}
#endif

/* ---- the module ----------------------------------------------------------------------------------------------- */

static PyObject *is_current(PyObject *module, PyObject *event_loop) {
    const PyLoop_Api *api = need_api();
    (void)module;
    PyLoop_Loop *loop = api ? need_loop(api, event_loop) : NULL;
    if (!loop) {
        return NULL;
    }
    int current = api->loop_is_current(loop);
    api->loop_release(loop);
    return PyBool_FromLong(current);
}

/* Whether the thread runs a loop of pyloop's, and whether that is a loop that this thread runs. */
static PyObject *loop_of_thread(PyObject *module, PyObject *ident) {
    const PyLoop_Api *api = need_api();
    (void)module;
    unsigned long long number = PyLong_AsUnsignedLongLong(ident);
    if (!api || PyErr_Occurred()) {
        return NULL;
    }
    PyLoop_Loop *loop = api->loop_of_thread(number);
    int current = loop && api->loop_is_current(loop);
    if (loop) {
        api->loop_release(loop);
    }
    return Py_BuildValue("(NN)", PyBool_FromLong(loop != NULL), PyBool_FromLong(current));
}

/* None outside of a task of pyloop's, else the flags. */
static PyObject *flags_of_step(PyObject *module, PyObject *nothing) {
    const PyLoop_Api *api = need_api();
    (void)module;
    (void)nothing;
    uint32_t flags = 77;
    if (!api) {
        return NULL;
    }
    if (!api->current_waker(&flags)) {
        Py_RETURN_NONE;
    }
    return api->current_waker(NULL) ? PyLong_FromUnsignedLong(flags) : NULL;
}

/* Registers the type; after that its objects may be yielded. */
static PyObject *register_waiting(PyObject *module, PyObject *nothing) {
    const PyLoop_Api *api = need_api();
    (void)module;
    (void)nothing;
    return api ? PyLong_FromLong(api->register_awaitable((PyObject *)waiting_type, waiting_cancel)) : NULL;
}

static PyObject *is_there(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    return PyBool_FromLong(PyLoop_Get() != NULL);
}

static PyMethodDef functions[] = {
    {"spawn", spawn, METH_VARARGS, NULL},
    {"callback", callback, METH_VARARGS, NULL},
#ifndef OLDER_HEADER
    {"timer", timer, METH_VARARGS, NULL},
    {"drop_timer", drop_timer, METH_O, NULL},
#endif
    {"is_current", is_current, METH_O, NULL},
    {"loop_of_thread", loop_of_thread, METH_O, NULL},
    {"flags_of_step", flags_of_step, METH_NOARGS, NULL},
    {"register_waiting", register_waiting, METH_NOARGS, NULL},
    {"is_there", is_there, METH_NOARGS, NULL},
    {0},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "c_client", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_c_client(void) {
    PyObject *module = PyModule_Create(&definition);
    waiting_type = (PyTypeObject *)PyType_FromSpec(&waiting_spec);
    if (!module || !waiting_type || PyModule_AddObjectRef(module, "Waiting", (PyObject *)waiting_type)
        || PyModule_AddIntConstant(module, "SIZE", (long)sizeof(PyLoop_Api))
        || PyModule_AddIntConstant(module, "MAJOR", PYLOOP_MAJOR)
        || PyModule_AddIntConstant(module, "MINOR", PYLOOP_MINOR)) {
        return NULL;
    }
    return module;
}
