// CUDA C on the CPU: a kernel's text, compiled behind this header, runs one block after another.
//
// Each thread of a block is a fiber, a stack of its own to which the processor switches. A thread runs until a barrier
// or its end, then the next thread has its turn, in an order drawn anew after each barrier. With EMULATION_THREADS
// each thread is a thread of the operating system, which ThreadSanitizer can follow.
//
// The package gpu.emulator puts a text behind this header, names each kernel with EMULATED_KERNEL after it, and writes
// EMULATED_SHARED(kernel) for each __shared__ inside a kernel. With EMULATION_MAIN the result is an executable.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utility>

// ---------------------------------------------------------------------------------------------------------------------
// Words and functions of CUDA C
// ---------------------------------------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

// A section for each kernel, so that all its shared memory can be filled at once and no other kernel's is.
#define EMULATED_SHARED(kernel) static __attribute__((section("shared_" #kernel)))

#ifdef EMULATION_THREADS
#define EMULATION_LOCAL thread_local
#else
#define EMULATION_LOCAL
#endif

struct uint3 {
    unsigned int x, y, z;
};
struct dim3 {
    unsigned int x, y, z;
};

static EMULATION_LOCAL uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

// CUDA C's functions for both precisions; the C library's headers would declare those for double alone.
#define EMULATED_FUNCTION(name)                                             \
    extern "C" double name(double) noexcept;                                \
    static inline float name(float x) { return __builtin_##name##f(x); }
EMULATED_FUNCTION(exp)
EMULATED_FUNCTION(expm1)
EMULATED_FUNCTION(log)
EMULATED_FUNCTION(log1p)
EMULATED_FUNCTION(tanh)
EMULATED_FUNCTION(sqrt)
EMULATED_FUNCTION(fabs)

namespace emulation {
static void stop(int line);
}

// After it the compiler must read shared memory anew.
static inline void __syncthreads(int line = __builtin_LINE()) {
    emulation::stop(line);
    asm volatile("" ::: "memory");
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

namespace emulation {

// What the latest launch did. Barriers count once for a block, whatever its number of threads.
struct Counts {
    long long bytes_read, bytes_written, operations, barriers;
};
static Counts counts;

}  // namespace emulation

// Counters would be races between the threads of the operating system.
#ifndef EMULATION_THREADS
#define COUNT_READ(bytes) (emulation::counts.bytes_read += (bytes))
#define COUNT_WRITE(bytes) (emulation::counts.bytes_written += (bytes))
#define COUNT_OPERATIONS(n) (emulation::counts.operations += (n))
#endif

namespace emulation {

// ---------------------------------------------------------------------------------------------------------------------
// Kernels and their parameters
// ---------------------------------------------------------------------------------------------------------------------

// One argument: a pointer or a number, in the first bytes of eight.
typedef uint64_t Slot;

// What Python packs into one string of bytes.
struct Launch {
    unsigned int grid[3], block[3];
    uint64_t seed;
    Slot slots[1];  // as many as the kernel has parameters
};

struct Kernel {
    const char* name;
    long long bound;  // most threads of a block
    const char* const* parameters;  // names of their types; a null pointer ends them
    void (*call)(void (*function)(), const Slot* slots);
    void (*function)();
    unsigned char *shared, *shared_end;
};

constexpr int MAX_KERNELS = 1024;
static Kernel kernels[MAX_KERNELS];
static int kernel_count;

template <class T>
struct Unsupported {
    static_assert(sizeof(T) == 0, "a kernel's parameters are numbers or pointers to numbers");
    static constexpr const char* name = "";
};
template <class T>
constexpr const char* type_name = Unsupported<T>::name;

#define EMULATED_TYPE(T)                                          \
    template <>                                                   \
    constexpr const char* type_name<T> = #T;                      \
    template <>                                                   \
    constexpr const char* type_name<T*> = #T "*";                 \
    template <>                                                   \
    constexpr const char* type_name<const T*> = "const " #T "*";
EMULATED_TYPE(int)
EMULATED_TYPE(unsigned int)
EMULATED_TYPE(long long)
EMULATED_TYPE(unsigned long long)
EMULATED_TYPE(float)
EMULATED_TYPE(double)

template <class... P>
struct Signature {
    static constexpr const char* parameters[] = {type_name<P>..., nullptr};

    template <size_t... I>
    static void apply(void (*function)(P...), const Slot* slots, std::index_sequence<I...>) {
        (void)slots;  // a kernel without parameters reads none
        function(*reinterpret_cast<const P*>(slots + I)...);
    }
    static void call(void (*function)(), const Slot* slots) {
        apply(reinterpret_cast<void (*)(P...)>(function), slots, std::index_sequence_for<P...>());
    }
};

struct Registration {
    template <class... P>
    Registration(const char* name, void (*function)(P...), long long bound, unsigned char* shared,
                 unsigned char* shared_end) {
        if (kernel_count == MAX_KERNELS) abort();
        kernels[kernel_count++] = {name, bound, Signature<P...>::parameters, Signature<P...>::call,
                                   reinterpret_cast<void (*)()>(function), shared, shared_end};
    }
};

// The anchor makes the section, and with it the linker's two symbols, exist for kernels without shared memory too.
#define EMULATED_KERNEL(kernel, bound)                                                                         \
    EMULATED_SHARED(kernel) __attribute__((used)) unsigned char shared_anchor_##kernel;                        \
    extern "C" __attribute__((visibility("hidden"))) unsigned char __start_shared_##kernel[];                  \
    extern "C" __attribute__((visibility("hidden"))) unsigned char __stop_shared_##kernel[];                   \
    static emulation::Registration registration_##kernel(#kernel, kernel, bound, __start_shared_##kernel,      \
                                                         __stop_shared_##kernel);

// NaN as float and double, -1 as an integer. Redzones that AddressSanitizer put between arrays are filled too.
__attribute__((no_sanitize("address", "thread"))) static void poison(unsigned char* begin, unsigned char* end) {
#ifdef EMULATION_MAIN
    for (volatile unsigned char* byte = begin; byte < end; byte++) *byte = 0xff;
#else
    memset(begin, 0xff, end - begin);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Random orders
// ---------------------------------------------------------------------------------------------------------------------

static uint64_t random_state;

// The generator splitmix64.
static uint64_t random_bits() {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static void shuffle(unsigned int* order, unsigned int count) {
    for (unsigned int i = count; i > 1; i--) {
        unsigned int j = static_cast<unsigned int>(((random_bits() >> 32) * i) >> 32);
        unsigned int other = order[j];
        order[j] = order[i - 1];
        order[i - 1] = other;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// One block
// ---------------------------------------------------------------------------------------------------------------------

constexpr unsigned int MAX_THREADS = 1024;

static const Kernel* kernel;  // of this launch, as all that follows
static const Slot* slots;
static unsigned int thread_count;
static char failure[200];

static uint3 thread_index(unsigned int number) {
    return {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
}

static uint3 block_index(unsigned int number) {
    return {number % gridDim.x, number / gridDim.x % gridDim.y, number / gridDim.x / gridDim.y};
}

// A thread stops at the barrier in a line of the text, or at its end, which is line 0.
static void describe_divergence(int line, int other) {
    char places[2][40];
    int lines[2] = {line, other};
    for (int i = 0; i < 2; i++) {
        if (lines[i] == 0) {
            snprintf(places[i], sizeof places[i], "have returned");
        } else {
            snprintf(places[i], sizeof places[i], "wait in line %d", lines[i]);
        }
    }
    snprintf(failure, sizeof failure, "block (%u, %u, %u): not all threads reach the same barrier: some %s, others %s",
             blockIdx.x, blockIdx.y, blockIdx.z, places[0], places[1]);
}

}  // namespace emulation

#ifndef EMULATION_THREADS

#include <sys/mman.h>
#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

// Not a power of two: else the tops of all stacks would compete for the same lines of the cache.
#ifdef EMULATION_MAIN
constexpr size_t STACK = 262144 + 320;
#else
constexpr size_t STACK = 65536 + 320;
#endif

struct Fiber {
    bool entered;  // else it begins on an empty stack
    void* state[5];  // where it goes on, as __builtin_setjmp keeps it
    ucontext_t context;  // where it begins
#ifdef __SANITIZE_ADDRESS__
    const void* bottom;
    size_t size;
    void* fake_stack;
#endif
};

static Fiber fibers[MAX_THREADS];
static Fiber host;  // the stack that launches
static unsigned int fiber_count;  // fibers that this block uses

static char* stacks;
static unsigned int stack_count;

struct Thread {
    uint3 index;
    Fiber* fiber;  // null before its first turn
};

static Thread threads[MAX_THREADS];
static unsigned int order[MAX_THREADS];
static unsigned int turn;  // the place in `order` of the thread that runs
static Thread* current;
static int stopped_at;  // line at which the first thread stopped since the last barrier

// AddressSanitizer is told of each switch between stacks.
#ifdef __SANITIZE_ADDRESS__
static Fiber* departed;

static void depart(Fiber& from, Fiber& to) {
    departed = &from;
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
}
static void arrive(Fiber& to) { __sanitizer_finish_switch_fiber(to.fake_stack, &departed->bottom, &departed->size); }
#else
static void depart(Fiber&, Fiber&) {}
static void arrive(Fiber&) {}
#endif

// A fiber runs a thread to its end, then the next that was given to it.
static void run() {
    arrive(*current->fiber);
    for (;;) {
        kernel->call(kernel->function, slots);
        stop(0);
    }
}

static void enter(Fiber& fiber) {
    fiber.entered = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks + (&fiber - fibers) * STACK;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run, 0);
    setcontext(&fiber.context);
}

// Go on in another fiber; come back when somebody transfers to this one.
__attribute__((noinline, no_sanitize("address", "undefined"))) static void transfer(Fiber& from, Fiber& to) {
    depart(from, to);
    // swapcontext makes two system calls for the mask of signals, and longjmp mangles addresses; these do neither.
    if (__builtin_setjmp(from.state) == 0) {
        if (!to.entered) enter(to);
        __builtin_longjmp(to.state, 1);
    }
    arrive(from);
}

// The thread that runs stops, and the next has its turn.
__attribute__((noinline)) static void stop(int line) {
    Fiber* here = current->fiber;
    if (turn == 0) stopped_at = line;
    if (line != stopped_at) {
        describe_divergence(stopped_at, line);
        transfer(*here, host);
    }
    if (++turn == thread_count) {
        if (line == 0) {
            transfer(*here, host);
            return;  // another block has begun, and its thread `current` was given this fiber
        }
        counts.barriers++;
        shuffle(order, thread_count);
        turn = 0;
    }
    current = threads + order[turn];
    threadIdx = current->index;
    if (!current->fiber) {
        // Where no thread waits, all run one after another without a switch.
        current->fiber = line == 0 ? here : fibers + fiber_count++;
    }
    if (current->fiber != here) transfer(*here, *current->fiber);
}

static void begin() {
    if (thread_count > stack_count) {
        if (stacks) munmap(stacks, stack_count * STACK);
        void* memory = mmap(nullptr, thread_count * STACK, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) abort();
        stacks = static_cast<char*>(memory);
        stack_count = thread_count;
        for (Fiber& fiber : fibers) fiber.entered = false;
#ifdef __SANITIZE_ADDRESS__
        for (unsigned int i = 0; i < stack_count; i++) {
            fibers[i].bottom = stacks + i * STACK;
            fibers[i].size = STACK;
        }
#endif
    }
    host.entered = true;
    for (unsigned int i = 0; i < thread_count; i++) {
        threads[i].index = thread_index(i);
        order[i] = i;
    }
}

static void run_block(unsigned int number) {
    blockIdx = block_index(number);
    poison(kernel->shared, kernel->shared_end);
    for (unsigned int i = 0; i < thread_count; i++) threads[i].fiber = nullptr;
    shuffle(order, thread_count);
    turn = 0;
    fiber_count = 1;
    current = threads + order[0];
    current->fiber = fibers;
    threadIdx = current->index;
    transfer(host, fibers[0]);
    if (failure[0]) {
        for (Fiber& fiber : fibers) fiber.entered = false;  // those that wait never go on
    }
}

}  // namespace emulation

#else

#include <pthread.h>
#include <time.h>
#include <unistd.h>

extern "C" void AnnotateBenignRaceSized(const char* file, int line, const volatile void* memory, size_t size,
                                        const char* description);

namespace emulation {

// Blocks run one after another. When they are ordered, ThreadSanitizer sees that each begins after the last ended.
// Unordered, it does not, and reports blocks that meet in global memory. Shared memory is then left out: blocks have
// the same here, but not on a device.
static bool ordered;

struct Block {
    uint3 index;
    unsigned int running;  // threads that have not ended
    // By turns: a thread that is late at one must not seem to come after what others do before the next.
    pthread_barrier_t barriers[2];
    int lines[2][MAX_THREADS];  // where each thread stopped
};

struct Thread {
    Block* block;
    unsigned int number;
};

static thread_local Thread current;
static thread_local int phase;

// A thread's end is a barrier too, so that threads which wait for it elsewhere are found, not waited for.
static void stop(int line) {
    Block& block = *current.block;
    block.lines[phase][current.number] = line;
    pthread_barrier_wait(&block.barriers[phase]);
    int first = block.lines[phase][0];
    if (line != first) {
        static bool told;
        if (__atomic_exchange_n(&told, true, __ATOMIC_ACQ_REL)) pause();
        describe_divergence(first, line);
        fprintf(stderr, "%s\n", failure);
        _exit(1);
    }
    phase = 1 - phase;
}

// How the launching thread learns, behind ThreadSanitizer's back, that a block has ended.
__attribute__((noinline, no_sanitize("thread"))) static void leave(Block& block) {
    __atomic_fetch_sub(&block.running, 1, __ATOMIC_SEQ_CST);
}
__attribute__((noinline, no_sanitize("thread"))) static bool runs(Block& block) {
    return __atomic_load_n(&block.running, __ATOMIC_SEQ_CST) != 0;
}

static void* run(void* thread) {
    current = *static_cast<Thread*>(thread);
    blockIdx = current.block->index;
    threadIdx = thread_index(current.number);
    kernel->call(kernel->function, slots);
    stop(0);
    leave(*current.block);
    return nullptr;
}

static void begin() {
    if (!ordered) {
        AnnotateBenignRaceSized(__FILE__, __LINE__, kernel->shared, kernel->shared_end - kernel->shared, "shared");
    }
}

// Nothing is freed: the next block's structures at the same addresses would seem to be in a race with this one's.
static void run_block(unsigned int number) {
    Block* block = static_cast<Block*>(calloc(1, sizeof(Block)));
    Thread* threads = static_cast<Thread*>(calloc(thread_count, sizeof(Thread)));
    pthread_t* handles = static_cast<pthread_t*>(calloc(thread_count, sizeof(pthread_t)));
    if (!block || !threads || !handles) abort();
    block->index = block_index(number);
    block->running = thread_count;
    for (pthread_barrier_t& barrier : block->barriers) pthread_barrier_init(&barrier, nullptr, thread_count);
    poison(kernel->shared, kernel->shared_end);
    for (unsigned int i = 0; i < thread_count; i++) {
        threads[i] = {block, i};
        if (pthread_create(handles + i, nullptr, run, threads + i)) abort();
        if (!ordered) pthread_detach(handles[i]);
    }
    if (ordered) {
        for (unsigned int i = 0; i < thread_count; i++) pthread_join(handles[i], nullptr);
    } else {
        const timespec pause = {0, 50000};
        while (runs(*block)) nanosleep(&pause, nullptr);
    }
}

}  // namespace emulation

#endif

namespace emulation {

// ---------------------------------------------------------------------------------------------------------------------
// A launch
// ---------------------------------------------------------------------------------------------------------------------

// Null, or what went wrong.
static const char* launch(int number, const Launch& launch) {
    kernel = kernels + number;
    slots = launch.slots;
    counts = {};
    failure[0] = 0;
    random_state = launch.seed;
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    thread_count = blockDim.x * blockDim.y * blockDim.z;
    uint64_t blocks = static_cast<uint64_t>(gridDim.x) * gridDim.y * gridDim.z;
    unsigned int* sequence = static_cast<unsigned int*>(malloc(blocks * sizeof(unsigned int)));
    if (!sequence || blocks > UINT32_MAX) {
        free(sequence);
        return "the grid is too large for the emulator";
    }
    for (uint64_t i = 0; i < blocks; i++) sequence[i] = static_cast<unsigned int>(i);
    shuffle(sequence, static_cast<unsigned int>(blocks));
    begin();
    for (uint64_t i = 0; i < blocks && !failure[0]; i++) run_block(sequence[i]);
    free(sequence);
    return failure[0] ? failure : nullptr;
}

}  // namespace emulation

#ifdef EMULATION_MAIN

// Arguments: a file, the kernel's name, and "ordered" or "unordered". The file holds the struct Launch, then for each
// parameter the number of the parameter with whose array it is filled, or -1 for none; where that is the parameter's
// own number, the array's size in bytes and its contents follow. The output "finished" says that all went well.
static void read_exactly(FILE* file, void* memory, size_t size) {
    if (fread(memory, 1, size, file) != size) abort();
}

int main(int argc, char** argv) {
    if (argc != 4) abort();
    int number = 0;
    while (strcmp(emulation::kernels[number].name, argv[2])) {
        if (++number == emulation::kernel_count) abort();
    }
#ifdef EMULATION_THREADS
    emulation::ordered = !strcmp(argv[3], "ordered");
#endif
    size_t count = 0;
    while (emulation::kernels[number].parameters[count]) count++;
    size_t size = offsetof(emulation::Launch, slots) + count * sizeof(emulation::Slot);
    emulation::Launch* launch = static_cast<emulation::Launch*>(malloc(sizeof(emulation::Launch) + size));
    FILE* file = fopen(argv[1], "rb");
    if (!launch || !file) abort();
    read_exactly(file, launch, size);
    for (size_t i = 0; i < count; i++) {
        int64_t source, bytes;
        read_exactly(file, &source, sizeof source);
        if (source < 0) continue;
        if (static_cast<size_t>(source) < i) {
            launch->slots[i] = launch->slots[source];
            continue;
        }
        read_exactly(file, &bytes, sizeof bytes);
        void* memory;  // aligned as CUDA's allocations are
        if (posix_memalign(&memory, 256, static_cast<size_t>(bytes))) abort();
        read_exactly(file, memory, static_cast<size_t>(bytes));
        launch->slots[i] = reinterpret_cast<emulation::Slot>(memory);
    }
    fclose(file);
    const char* error = emulation::launch(number, *launch);
    if (error) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    puts("finished");
    return 0;
}

#else

// What Python calls.
#define EMULATION_EXPORT extern "C" __attribute__((visibility("default")))

EMULATION_EXPORT const char* emulation_name(int kernel) {
    return kernel < emulation::kernel_count ? emulation::kernels[kernel].name : nullptr;
}
EMULATION_EXPORT long long emulation_bound(int kernel) { return emulation::kernels[kernel].bound; }
EMULATION_EXPORT const char* emulation_parameter(int kernel, int number) {
    return emulation::kernels[kernel].parameters[number];
}
EMULATION_EXPORT const emulation::Counts* emulation_counts() { return &emulation::counts; }
EMULATION_EXPORT const char* emulation_launch(int kernel, const emulation::Launch* launch) {
    return emulation::launch(kernel, *launch);
}

#endif
